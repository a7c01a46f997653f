"""The only place that opens a transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from db.engine import UNAVAILABLE, engine


class CommitInDoubt(Exception):
    """The connection broke during COMMIT: it may have happened or not, and only the database can say."""


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    """
    Run the block in a Piccolo transaction; commit at its end, roll back on an exception.

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
                await current.rollback()
            raise
        try:
            await current.commit()
        except UNAVAILABLE as lost:
            raise CommitInDoubt from lost
    finally:
        engine().current_transaction.set(None)
        if connection := getattr(current, "connection", None):
            pool = engine().pool
            await (pool.release(connection) if pool else connection.close())
