"""Redis as its clients meet it: connections that are not kept once it takes no writes, and what ails it in words."""

from functools import cache
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

# A replica, and a server that is full, answer a PING and every read: only a write tells whether Redis can be used.
PROBE_KEY, PROBE_KEY_SECONDS = "wallet:probe", 10


def open_redis(redis_url: str, **options: Any) -> Redis:
    """
    A client of redis-py's; nothing is connected yet.

    A connection on which the server has called itself a replica is closed when it is given back: its address may lead
    to another server since.
    """
    redis: Redis = Redis.from_url(redis_url, **options)
    pool = redis.connection_pool
    kind: Any = pool.connection_class
    pool.connection_class = _not_kept_where_read_only(kind)
    return redis


def redis_fault(error: BaseException) -> str:
    """What ails Redis, to go on a sentence that begins with its name."""
    match error:
        case ReadOnlyError():
            return "is a replica and takes no writes"
        case OutOfMemoryError():
            return "is full and takes no writes"
        case BusyLoadingError():
            return "is still loading its data"
        case AuthenticationError() | AuthenticationWrongNumberOfArgsError() | NoPermissionError():
            return f"does not let us in ({type(error).__name__})"
        case ResponseError():
            code = str(error).partition(" ")[0]
            return f"refuses what it is asked ({code if code.isupper() else type(error).__name__})"
        case _:
            return f"does not answer ({type(error).__name__})"


@cache
def _not_kept_where_read_only(connection_class: Any) -> Any:
    class NotKeptWhereReadOnly(connection_class):  # type: ignore[misc]  # TCP, TLS or a Unix socket, by the URL
        async def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*arguments, **options)
            except ReadOnlyError:
                self.mark_for_reconnect()
                raise

    return NotKeptWhereReadOnly
