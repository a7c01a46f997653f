"""The connection pool: opened once a process, shared by Piccolo's queries and the ledger."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import asyncpg
from asyncpg.exceptions import (
    ConfigFileError,
    DiskFullError,
    IdleInTransactionSessionTimeoutError,
    InsufficientPrivilegeError,
    InsufficientResourcesError,
    InterfaceError,
    InternalClientError,
    InvalidAuthorizationSpecificationError,
    InvalidCachedStatementError,
    InvalidCatalogNameError,
    InvalidSchemaNameError,
    ObjectNotInPrerequisiteStateError,
    OperatorInterventionError,
    OutOfMemoryError,
    PostgresConnectionError,
    PostgresError,
    PostgresSystemError,
    ReadOnlySQLTransactionError,
    TransactionRollbackError,
    TransactionTimeoutError,
    UndefinedTableError,
)
from msgspec import Struct

from db import trouble
from piccolo_conf import DB, Engine

# What the driver raises when the database can't be reached, does not answer in time, or is there and can't serve: by
# whole classes of SQLSTATE, so that what nobody has thought of is among them.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    InterfaceError,
    InternalClientError,  # the server has just closed an idle connection, and the driver learns of it by using it
    PostgresConnectionError,  # 08
    InvalidCachedStatementError,  # 0A000: the tables were migrated under a plan
    ReadOnlySQLTransactionError,  # 25006: a standby, a demoted primary, a managed database whose disk is full
    IdleInTransactionSessionTimeoutError,  # 25P03
    TransactionTimeoutError,  # 25P04
    InvalidAuthorizationSpecificationError,  # 28
    InvalidCatalogNameError,  # 3D
    InvalidSchemaNameError,  # 3F
    InsufficientPrivilegeError,  # 42501: restored by somebody else
    UndefinedTableError,  # 42P01: restored without tables, or elsewhere than the search_path says
    TransactionRollbackError,  # 40
    InsufficientResourcesError,  # 53: disk, memory, connections
    ObjectNotInPrerequisiteStateError,  # 55: a lock that can't be had, connections that are not allowed
    OperatorInterventionError,  # 57: shutdown, crash, a statement that was cancelled
    PostgresSystemError,  # 58: input and output
    ConfigFileError,  # F0
)

# A session that was told this would be told it again, though the server may have changed since. Not what is said to who
# connects (a login that is refused, too many connections): the sessions that are there are good, and all there is.
SPOILT = (
    ReadOnlySQLTransactionError,
    DiskFullError,
    OutOfMemoryError,
    PostgresSystemError,
    InvalidSchemaNameError,
    UndefinedTableError,
)


# While a server goes on saying so, new sessions are no better: not all of them are replaced for each question anew.
_RENEW_SECONDS = 1.0
_renewed_at = -_RENEW_SECONDS

# What a statement is told of a database that won't serve the next one either.
_UNFIT = (InsufficientResourcesError, *SPOILT)


class Session(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection of the pool, which is dropped where the server says what spoils a session, and soon all others."""

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As asyncpg's."""
        try:
            return await super().execute(*args, **kwargs)
        except _UNFIT as error:
            await _refused(self, error)
            raise

    async def fetch(self, *args: Any, **kwargs: Any) -> Any:
        """As asyncpg's: what Piccolo and the ledger ask through."""
        try:
            return await super().fetch(*args, **kwargs)
        except _UNFIT as error:
            await _refused(self, error)
            raise


class Pool(Struct, frozen=True, kw_only=True):
    """The database connections of one process, but those reserved for payments, and the timeouts of all."""

    min_size: int = 2
    max_size: int = 10
    connect_timeout_seconds: float = 5
    statement_timeout_seconds: float = 10
    lock_timeout_seconds: float = 0.75
    """How long a statement waits for a lock on a table or row, or for another transaction that writes the same id."""


def engine() -> Engine:
    """The engine of `piccolo_conf.py`."""
    return DB


@asynccontextmanager
async def connection_pool(pool: Pool, *, reserved: int = 4) -> AsyncIterator[None]:
    """
    Open the pool for as long as the block runs, and beside it so many connections for payments alone.

    Whoever asks for anything else may have to wait for a row or a table that somebody has locked, each with a
    connection. However many they are, payments don't wait for them.
    """
    options: dict[str, Any] = {
        "timeout": pool.connect_timeout_seconds,
        "command_timeout": pool.statement_timeout_seconds,
        "reset": _nothing_to_reset,
        "connection_class": Session,
        "connect": _connect,
        "init": _for_sessions_of(pool),
        "server_settings": {"application_name": "wallet", "timezone": "UTC"},
    }
    await DB.start_connection_pool(min_size=pool.min_size, max_size=pool.max_size, **options)
    try:
        async with asyncpg.create_pool(**DB.config, min_size=1, max_size=reserved, **options) as DB.reserved:
            yield
    finally:
        DB.reserved = None
        await DB.close_connection_pool()


def _for_sessions_of(pool: Pool) -> Callable[[asyncpg.Connection], Awaitable[None]]:
    """
    What sets a new session up. PgBouncer takes these settings from nobody who logs in: it refuses them, or, told to
    ignore them, drops them in silence.
    """
    settings = {
        # A process that vanished or froze inside a transaction must not hold its row locks for longer than a batch may
        # take.
        "idle_in_transaction_session_timeout": "2s",
        "lock_timeout": f"{int(pool.lock_timeout_seconds * 1000)}ms",
        # A prepared statement's plan may date from when a table was empty and a scan of it was cheapest. It is kept
        # while the table grows, and every batch would read every key. All that is asked here has an index.
        "enable_seqscan": "off",
        # PostgreSQL would plan a batch of one to three orders anew each time, since it guesses that an array has ten
        # elements and finds a plan for the real number a little cheaper: half of what such a batch took.
        "plan_cache_mode": "force_generic_plan",
    }
    statements = "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())

    async def set_up(connection: asyncpg.Connection) -> None:
        await connection.execute(statements)

    return set_up


async def renew_connections() -> None:
    """Have every connection of the pool replaced before it is used again: its session is not what it should be."""
    for pool in (DB.pool, DB.reserved):
        if pool:
            await pool.expire_connections()


async def _refused(session: Session, error: BaseException) -> None:
    global _renewed_at
    trouble.remember(error)
    if not isinstance(error, SPOILT):
        return
    session.terminate()
    if monotonic() - _renewed_at > _RENEW_SECONDS:
        _renewed_at = monotonic()
        await renew_connections()


async def _connect(*args: Any, **kwargs: Any) -> Any:
    try:
        return await asyncpg.connect(*args, **kwargs)
    except InsufficientPrivilegeError as error:
        raise trouble.NotLetIn(str(error)) from error
    except UNAVAILABLE:
        raise
    except PostgresError as error:
        raise trouble.NotLetIn(str(error)) from error


async def _nothing_to_reset(_connection: Any) -> None:
    """We set nothing on a session, so asyncpg's RESET ALL would only cost a round trip a batch."""
