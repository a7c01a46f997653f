"""What PostgreSQL has to be before anything is asked of it: at a readable address, new enough, and a session ours."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLCertVerificationError
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg import Connection
from asyncpg.connect_utils import SessionAttribute
from asyncpg.exceptions import (
    CantChangeRuntimeParamError,
    ClientConfigurationError,
    InvalidParameterValueError,
    PostgresConnectionError,
    PostgresError,
    UndefinedObjectError,
)

from db.database_url import Unsuitable, check_database_url
from db.errors import ESCAPING

# What was tried with which version: docs/operations.md.
POSTGRES_MIN = 13
# Other clients of a pooler may take the connection that is looked for, but hardly each time.
ATTEMPTS = 3

_TLS_OR_NOTHING = ("require", "verify-ca", "verify-full")


async def check_postgres(database_url: str, seconds: float) -> None:
    """
    Look at the server, and at what stands before it, over two connections that are closed afterwards.

    Raises:
        Unsuitable: the address has a part that can't be right, what is there is too old, no PostgreSQL or not trusted,
            or a pooler hands its connections from transaction to transaction. To wait would help with none of it.
        UNAVAILABLE: it can't be reached, did not answer within so many seconds, or is a standby where the address asks
            for a primary, or the other way round. To wait may help with all of it.
    """
    check_database_url(database_url)
    async with _connected(database_url, seconds) as first:
        version = first.get_server_version().major
        if version < POSTGRES_MIN:
            raise Unsuitable(f"PostgreSQL {version} at DATABASE_URL is too old: use {POSTGRES_MIN} or newer.")
        async with _connected(database_url, seconds) as second:
            for _ in range(ATTEMPTS):
                if await _share(first, second):
                    raise Unsuitable(
                        "DATABASE_URL leads to a pooler that gives each transaction another connection: name PostgreSQL"
                        " itself, or a pool with pool_mode=session."
                    )


async def _share(first: Connection, second: Connection) -> bool:
    """
    Whether these two have had the same session of the server, or one of them has had two, or can't have a transaction.

    A pooler that lends connections for a transaction lends the one that came back last, or the one that came back
    first. The former gives what `first` had to `second`; the latter gives `first` another one if there is one.
    """
    try:
        own = {await _pid(first), await _pid(first)}
    except PostgresConnectionError as error:
        if "statement pooling" in str(error):
            return True
        raise
    async with _transaction_of(second) as other:
        if other in own:
            return True
        own.add(await _pid(first))
    return len(own) > 1


async def _pid(connection: Connection) -> int:
    async with _transaction_of(connection) as pid:
        return pid


@asynccontextmanager
async def _transaction_of(connection: Connection) -> AsyncIterator[int]:
    """The session that has the transaction in which the block runs; it is rolled back, since it has done nothing."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield await connection.fetchval("SELECT pg_backend_pid()")
    finally:
        await transaction.rollback()


@asynccontextmanager
async def _connected(database_url: str, seconds: float) -> AsyncIterator[Connection]:
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=seconds,
            command_timeout=seconds,
            statement_cache_size=0,  # a named statement may be somebody else's behind a pooler
            server_settings={"application_name": "wallet"},
        )
    except Exception as error:
        if fault := _lasting_fault(error, database_url):
            raise Unsuitable(fault) from None
        if isinstance(error, ConnectionError) and isinstance(error.__cause__, PostgresError):
            raise error.__cause__ from None  # sslmode=allow: what it said before TLS was tried
        raise
    try:
        yield connection
    finally:
        await connection.close(timeout=seconds)


def _lasting_fault(error: Exception, database_url: str) -> str | None:
    """Why nothing is connected, as a sentence, if that is not over by itself."""
    match error:
        case ClientConfigurationError() if "target_session_attrs" in str(error):  # it shows a method for their list
            allowed = ", ".join(each.value for each in SessionAttribute)
            return f"DATABASE_URL: target_session_attrs must be one of {allowed}."
        case ClientConfigurationError():
            return f"DATABASE_URL: {_in_one_line(error)}."
        case UndefinedObjectError() | InvalidParameterValueError() | CantChangeRuntimeParamError():
            return f"DATABASE_URL has a parameter that PostgreSQL does not take: {_in_one_line(error)}."
        case PostgresConnectionError() if "startup parameter" in str(error):
            return f"DATABASE_URL has a parameter that the pooler does not take: {_in_one_line(error)}."
        case SSLCertVerificationError():
            return f"PostgreSQL's certificate at DATABASE_URL is not trusted: {_in_one_line(error.verify_message)}."
        case ConnectionError() if "rejected SSL upgrade" in str(error) and not error.__cause__:
            if _sslmode(database_url) in _TLS_OR_NOTHING:
                return "DATABASE_URL asks for TLS (sslmode), and what answers there has none, or is not PostgreSQL."
            return "What answers at DATABASE_URL is not PostgreSQL."  # which says by one letter that it has no TLS
        case ValueError() | IndexError():  # of a host that can't be one; it may be a part of a password
            return f"DATABASE_URL has a host that can't be one; {ESCAPING}."
        case _:
            return None


def _sslmode(database_url: str) -> str:
    named = parse_qs(urlsplit(database_url).query).get("sslmode", [os.environ.get("PGSSLMODE", "prefer")])
    return named[-1].replace("_", "-")


def _in_one_line(error: BaseException | str) -> str:
    return str(error).partition("\n")[0].rstrip(".")
