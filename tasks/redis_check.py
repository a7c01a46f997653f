"""What Redis has to be before anything is asked of it: at a readable address, and new enough."""

import os
import re
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from db.errors import ReadableError

# The oldest that was tried: docs/operations.md. Valkey calls itself 7.2.
REDIS_MIN = (6, 2)
ANSWER_SECONDS = 2.0

_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


class RedisUnsuitable(ReadableError):
    """What REDIS_URL names can't be worked with; the message says why, and shows nothing that is confidential."""


async def check_redis(redis_url: str) -> None:
    """
    Look at the server, if it is there; everybody can do without it for a while, and who can't says so.

    Raises:
        RedisUnsuitable: the address has a part that can't be right, or the server is too old. To wait would not help.
    """
    redis = _client(redis_url)
    try:
        info = await redis.info("server")
    except (RedisError, OSError):
        return
    finally:
        await redis.aclose()
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < REDIS_MIN:
        raise RedisUnsuitable(f"Redis {version} at REDIS_URL is too old: use 6.2 or newer, or Valkey.")


def _client(redis_url: str) -> Redis:
    """The client, made like all others, and one connection as far as it can be made without a server."""
    try:
        parts = urlsplit(redis_url)
        parameters = parse_qs(parts.query)
        if parts.port == 0:
            raise ValueError
    except ValueError:  # it quotes what may be a part of a password
        raise RedisUnsuitable(
            "REDIS_URL has a port that is no number from 1 to 65535; write special characters of a password as %23 (#),"
            " %2F (/), %3A (:), %40 (@) and so on."
        ) from None
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+", parts.path):
        raise RedisUnsuitable("REDIS_URL must end with the number of a database, such as /0, or without a path.")
    for name in _FILES:
        for file in parameters.get(name, []):
            if not os.access(file, os.R_OK):
                raise RedisUnsuitable(f"REDIS_URL: {name} names a file that can't be read: {file}.")
    try:
        redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        if tls := getattr(connection, "ssl_context", None):
            tls.get()
    except (TypeError, ValueError, AttributeError, OSError, RedisError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        said = f"{unknown[1]} is not an option here" if unknown else str(error).rstrip(".")
        raise RedisUnsuitable(f"REDIS_URL: {said}.") from None
    return redis
