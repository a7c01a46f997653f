"""The only place that opens transactions."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from contextvars import Context
from functools import partial
from itertools import count
from typing import Any

from asyncpg import Connection, Record
from piccolo.engine.postgres import PostgresTransaction

from db import trouble
from db.engine import UNAVAILABLE, engine, renew_connections
from db.errors import ReadableError

# A flush takes milliseconds. A COMMIT that takes longer than this is looked up over another connection, where its row
# locks are waited for if it is still under way.
COMMIT_SECONDS = 2.0
_UNUSED_SECONDS = 0.25  # until an unused transaction is hung up: a lane waits


class CommitInDoubt(ReadableError):
    """The connection broke during COMMIT: it may have happened or not, and only the database can say."""

    def __init__(self) -> None:
        super().__init__(
            "The database connection was lost during the commit: check whether it happened, then try again."
        )


class NothingToKeep(Exception):
    """
    Raised in a transaction that has only read and locked: it is rolled back, and the block ends as if committed.

    To PostgreSQL a row that was locked is a change, and COMMIT waits until it is on the disk. Whoever asks about a
    number would see by the time whether there was a row to be locked.
    """


class Begun:
    """
    A transaction, on a reserved connection, whose BEGIN is on its way while its caller does something else, for one
    `transaction`.

    It must be ended, whether it was used or not: it has a slot of the pool.
    """

    def __init__(self) -> None:
        self._current, beginning = _begin(reserved=True)
        self._beginning: asyncio.Task[Any] | None = asyncio.create_task(beginning, context=Context())

    def use(self) -> tuple[PostgresTransaction, Awaitable[Any]]:
        """The transaction, and what is to be awaited first. Whoever comes later gets another one, begun then."""
        if not self._beginning:
            return _begin(reserved=True)
        beginning, self._beginning = self._beginning, None
        return self._current, beginning

    async def end(self) -> None:
        """Give it back, if nobody has used it. Nothing depends on how it ends, so its connection is hung up soon."""
        if not self._beginning:
            return
        current, beginning = self.use()
        silent = True
        try:
            with suppress(*UNAVAILABLE):
                async with asyncio.timeout(_UNUSED_SECONDS):
                    await beginning
                    await current.rollback()  # type: ignore[no-untyped-call]
                silent = False
        finally:
            await _give_back(current, hang_up=silent)


@asynccontextmanager
async def transaction(
    *,
    begun: Begun | None = None,
    reserved: bool = False,
    begin_seconds: float | None = None,
    committing: AbstractContextManager[None] | None = None,
) -> AsyncIterator[None]:
    """
    Run the block in a Piccolo transaction; commit at its end, within `committing`; roll back on an exception, of which
    `NothingToKeep` goes no further.

    It has one of the connections that are `reserved` for payments, or one that everybody shares.

    BEGIN may take `begin_seconds`, with the wait for a connection: as long as the pool allows, where none are given.

    Piccolo's own context manager keeps the pool slot, and the transaction current, where BEGIN, COMMIT or ROLLBACK
    fails: one outage would eat the pool. Here both are given back whatever happens.

    A connection that did not answer in time is hung up: whatever is sent after would wait as long once more, and a
    lane with it. PostgreSQL rolls back, or has committed, by itself.

    Raises:
        CommitInDoubt: the connection was lost, or silent for `COMMIT_SECONDS`, while COMMIT was under way.
        TimeoutError: BEGIN was not answered in time.
        TransactionError: a transaction is open already in this task.
    """
    current, beginning = begun.use() if begun else _begin(reserved=reserved)
    silent = False
    try:
        try:
            async with asyncio.timeout(begin_seconds):
                await beginning
        except asyncio.CancelledError:  # and nobody waits for the answer any more
            silent = True
            raise
        engine().current_transaction.set(current)
        commit = partial(_commit, current)
        end: Callable[[], Awaitable[Any]] = commit
        try:
            yield
        except TimeoutError:
            raise
        except NothingToKeep:
            end = current.rollback
        except BaseException:
            with suppress(*UNAVAILABLE):
                await current.rollback()  # type: ignore[no-untyped-call]
            raise
        try:
            with committing or nullcontext():
                async with asyncio.timeout(COMMIT_SECONDS):
                    await end()
        except UNAVAILABLE as lost:
            silent = isinstance(lost, TimeoutError)
            if getattr(lost, "severity_en", "") == "ERROR":  # the session goes on: COMMIT was refused, not interrupted
                raise
            if end == commit:
                raise CommitInDoubt from lost
    except TimeoutError:
        silent = True
        raise
    finally:
        engine().current_transaction.set(None)
        await _give_back(current, hang_up=silent)


async def _commit(current: PostgresTransaction) -> None:
    await current.commit()  # type: ignore[no-untyped-call]
    if trouble.forget():  # a session of before may still be what it was then
        await renew_connections()


async def _give_back(current: PostgresTransaction, *, hang_up: bool) -> None:
    connection = getattr(current, "connection", None)  # none where it could not be had
    if not connection:
        return
    pool = _pool(current)
    # The pool throws a broken connection away; that must not stand in the place of how the transaction has ended.
    with suppress(*UNAVAILABLE):
        if hang_up:
            connection.terminate()
        await (pool.release(connection) if pool else connection.close())


class _Reserved(PostgresTransaction):
    async def get_connection(self) -> Any:
        pool = _pool(self)
        return await (pool.acquire() if pool else engine().get_new_connection())


def _pool(current: PostgresTransaction) -> Any:
    return (engine().reserved if isinstance(current, _Reserved) else None) or engine().pool


def _begin(*, reserved: bool) -> tuple[PostgresTransaction, Coroutine[Any, Any, Any]]:
    kind = _Reserved if reserved else PostgresTransaction
    current = kind(engine(), allow_nested=False)
    return current, current.__aenter__()


async def run(statement: str, *arguments: Any) -> list[Record]:
    """
    Run a statement in the transaction that is open in this task.

    It goes straight to the transaction's connection. Piccolo's `raw` puts a statement together anew each time and makes
    a dict of each row, which a small batch notices.
    """
    current = engine().current_transaction.get()
    assert current, "outside a transaction what has been locked is free again"
    rows: list[Record] = await current.connection.fetch(statement, *arguments)
    return rows


def numbered(statement: str) -> str:
    """A statement with Piccolo's placeholders, `{}`, as `run` wants it: with PostgreSQL's `$1`, `$2`, …"""
    numbers = count(1)
    return re.sub(r"\{\}", lambda _: f"${next(numbers)}", statement)


@asynccontextmanager
async def snapshot() -> AsyncIterator[Connection]:
    """
    A read-only view of the database as of one moment, for long reads.

    It has a connection of its own: it takes no slot of the pool, and no statement in it has a time limit.
    """
    connection = await engine().get_new_connection()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        await connection.close()
