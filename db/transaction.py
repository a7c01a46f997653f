"""The only place that opens transactions."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from itertools import count
from typing import Any

from asyncpg import Connection, Record

from db.engine import UNAVAILABLE, engine


class CommitInDoubt(Exception):
    """The connection broke during COMMIT: it may have happened or not, and only the database can say."""


@asynccontextmanager
async def transaction(*, committing: AbstractContextManager[None] | None = None) -> AsyncIterator[None]:
    """
    Run the block in a Piccolo transaction; commit at its end, within `committing`; roll back on an exception.

    Piccolo's own context manager keeps the pool slot, and the transaction current, where BEGIN, COMMIT or ROLLBACK
    fails: one outage would eat the pool. Here both are given back whatever happens.

    Raises:
        CommitInDoubt: the connection was lost while COMMIT was under way.
        TransactionError: a transaction is open already in this task.
    """
    current = engine().transaction(allow_nested=False)
    try:
        await current.__aenter__()
        try:
            yield
        except BaseException:
            with suppress(*UNAVAILABLE):
                await current.rollback()  # type: ignore[no-untyped-call]
            raise
        try:
            with committing or nullcontext():
                await current.commit()  # type: ignore[no-untyped-call]
        except UNAVAILABLE as lost:
            raise CommitInDoubt from lost
    finally:
        engine().current_transaction.set(None)
        if connection := getattr(current, "connection", None):
            pool = engine().pool
            # The pool throws a broken connection away; that must not stand in the place of how the block has ended.
            with suppress(*UNAVAILABLE):
                await (pool.release(connection) if pool else connection.close())


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
