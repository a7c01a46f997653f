"""What Redis has to be before anything is asked of it: at a readable address, trusted, and new enough."""

import asyncio
import re
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from actors.engine.redis_client import cause, has_no_tls
from db.errors import ESCAPING, ReadableError
from db.tls_files import no_certificate, not_its_key, unreadable

# The oldest that was tried: docs/operations.md. Valkey calls itself 7.2.
REDIS_MIN = (6, 2)
ANSWER_SECONDS = 2.0

_CERTIFICATES = ("ssl_ca_certs", "ssl_certfile")
_FILES = (*_CERTIFICATES, "ssl_keyfile")


class RedisUnsuitable(ReadableError):
    """What REDIS_URL names can't be worked with; the message says why, and shows nothing that is confidential."""


async def check_redis(redis_url: str) -> None:
    """
    Look at the server, if it is there; everybody can do without it for a while, and who can't says so.

    Raises:
        RedisUnsuitable: the address has a part that can't be right, what is there is too old, no Redis or not trusted,
            or has TLS where the address has none, or the other way round. To wait would help with none of it.
    """
    redis = _client(redis_url)
    try:
        info = await redis.info("server")
    except (RedisError, OSError) as error:
        if fault := await _lasting_fault(redis, error):
            raise RedisUnsuitable(fault) from None
        return
    finally:
        await redis.aclose()
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < REDIS_MIN:
        raise RedisUnsuitable(f"Redis {version} at REDIS_URL is too old: use 6.2 or newer, or Valkey.")


async def _lasting_fault(redis: Redis, error: Exception) -> str | None:
    """Why it did not answer, as a sentence, if that is not over by itself."""
    tls = cause(error, ssl.SSLError)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return f"Redis's certificate at REDIS_URL is not trusted: {tls.verify_message.rstrip('.')}."
    if isinstance(error, InvalidResponse):
        return "What answers at REDIS_URL is not Redis."
    connection: Any = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    if not isinstance(connection, Connection):  # a Unix socket
        return None
    if isinstance(connection, SSLConnection):
        if has_no_tls(tls) if tls else await _speaks_plainly(connection):
            return "REDIS_URL asks for TLS (rediss://), and what answers there has none."
    elif isinstance(error, RedisConnectionError) and await _speaks_tls(connection):
        return "What answers at REDIS_URL speaks TLS: let the address begin with rediss://."
    return None


async def _speaks_tls(there: Connection) -> bool:
    """Whether it would shake hands with anybody: to who speaks plainly it says nothing, and closes."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # nothing is said over this connection
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(there.host, there.port, ssl=anybody)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _speaks_plainly(there: Connection) -> bool:
    """Whether it answers a PING as Redis does: of a handshake it would wait for the end of the line."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(there.host, there.port)
            try:
                writer.write(b"PING\r\n")
                return await reader.read(1) in (b"+", b"-")
            finally:
                writer.transport.abort()
    except OSError:
        return False


def _client(redis_url: str) -> Redis:
    """The client, made like all others, and one connection as far as it can be made without a server."""
    try:
        parts = urlsplit(redis_url)
        parameters = parse_qs(parts.query)
        if parts.port == 0:
            raise ValueError
    except ValueError:  # it quotes what may be a part of a password
        raise RedisUnsuitable(f"REDIS_URL has a port that is no number from 1 to 65535; {ESCAPING}.") from None
    if parts.fragment or (parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+", parts.path)):
        raise RedisUnsuitable(
            f"REDIS_URL must end with the number of a database, such as /0, or without a path; {ESCAPING}."
        )
    if "@" in parts.query and not ("@" in parts.netloc or parts.path or {"username", "password"} & parameters.keys()):
        raise RedisUnsuitable(f"REDIS_URL has an @ where none can be; {ESCAPING}.")
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise RedisUnsuitable(f"REDIS_URL has a host that can't be one; {ESCAPING}.") from None
    named = {name: values[-1] for name, values in parameters.items()}
    fault = (
        unreadable(named, _FILES)
        or no_certificate(named, _CERTIFICATES)
        or not_its_key(named, "ssl_certfile", "ssl_keyfile", "ssl_password")
    )
    if fault:
        raise RedisUnsuitable(f"REDIS_URL: {fault}")
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
