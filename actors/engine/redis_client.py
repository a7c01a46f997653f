"""Redis as its clients meet it: connections that are not kept once it takes no writes, and what ails it in words."""

from collections.abc import Iterator
from functools import cache
from socket import gaierror
from ssl import SSLCertVerificationError, SSLError
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from db.errors import ESCAPING

# A replica, and a server that is full, answer a PING and every read: only a write tells whether Redis can be used.
PROBE_KEY, PROBE_KEY_SECONDS = "wallet:probe", 10

_CLOSED = "Connection closed by server."  # as redis-py has it
# How OpenSSL calls an answer that is none to a handshake.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")

E = TypeVar("E", bound=BaseException)


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
        case InvalidResponse():
            return "answers as no Redis does"
        case _:
            return _connection_fault(error)


def _connection_fault(error: BaseException) -> str:
    if isinstance(tls := cause(error, SSLError), SSLCertVerificationError):
        return f"has a certificate that is not trusted ({tls.verify_message.rstrip('.')})"
    if tls:
        return "answers without TLS, which REDIS_URL asks for" if has_no_tls(tls) else f"fails at TLS ({tls.reason})"
    if cause(error, gaierror):
        return f"has a host that can't be found (look at REDIS_URL, and {ESCAPING})"
    if str(error) == _CLOSED:
        return "closes the connection"
    return f"does not answer ({type(error).__name__})"


def cause(error: BaseException, kind: type[E]) -> E | None:
    """What redis-py met before it raised an error of its own, if it was of this kind."""
    return next((each for each in _chain(error) if isinstance(each, kind)), None)


def has_no_tls(error: SSLError) -> bool:
    """Whether the handshake failed since what answered speaks something else."""
    return error.reason in _NO_TLS


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


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
