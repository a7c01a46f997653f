"""The database of a test: audited, watched, held up, poisoned."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from db.audit import audit
from db.engine import engine
from tests.helpers.purses import Purse
from tests.helpers.waiting import GIVE_UP_SECONDS, until


async def assert_audit() -> None:
    """Every money test ends with this."""
    report = await audit()
    assert report.ok, report.findings


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own, beside the pool."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def take_every_slot() -> None:
    """Have every connection that the pools of this process allow, all at once: none is lost."""
    async with asyncio.timeout(GIVE_UP_SECONDS), AsyncExitStack() as taken:
        for pool in (engine().pool, engine().reserved):
            assert pool
            for _ in range(pool.get_max_size()):
                await taken.enter_async_context(pool.acquire())


@asynccontextmanager
async def connected_alone(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection when nobody else has one any more: PostgreSQL has counted by then what they did."""
    async with connected(database_url) as connection:

        async def alone() -> bool:
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return bool(await connection.fetchval(others) == 0)

        await until(alone)
        yield connection


@asynccontextmanager
async def row_held(database_url: str, *wallets: Purse) -> AsyncIterator[None]:
    """Somebody else holds the rows of these wallets."""
    async with connected(database_url) as connection, connection.transaction():
        await connection.execute(
            'SELECT 1 FROM "wallet" WHERE "id" = ANY($1::bigint[]) FOR UPDATE', [wallet.id for wallet in wallets]
        )
        yield


@asynccontextmanager
async def held_up(database_url: str, *wallets: Purse) -> AsyncIterator[None]:
    """A batch that changes one of these wallets waits in its transaction, with all its rows locked."""
    async with connected(database_url) as connection:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'hold_up')"):
            await connection.execute(
                """
                CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_advisory_xact_lock_shared(NEW."id"); RETURN NEW; END $$;
                CREATE TRIGGER hold_up BEFORE UPDATE ON "wallet" FOR EACH ROW EXECUTE FUNCTION hold_up()
                """
            )
        async with connection.transaction():
            for wallet in wallets:
                await connection.execute("SELECT pg_advisory_xact_lock($1)", wallet.id)
            yield


async def until_waiting(database_url: str, number: int = 1) -> None:
    """Until so many statements wait for something that somebody else holds."""
    async with connected(database_url) as connection:

        async def waiting() -> bool:
            seen = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(seen >= number)

        await until(waiting)


async def assert_no_deadlock(database_url: str) -> None:
    """Nobody has ever waited in a circle in this database."""
    async with connected(database_url) as connection:
        seen = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert seen == 0


async def poison_amount(database_url: str, error: str = "raise_exception") -> None:
    """From now on the database fails each statement that writes a transaction of 13.13, with this error."""
    async with connected(database_url) as connection:
        await connection.execute(
            f"""
            CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW."amount" = 13.13 THEN RAISE {error}; END IF; RETURN NEW; END $$;
            CREATE TRIGGER poison BEFORE INSERT ON "transaction" FOR EACH ROW EXECUTE FUNCTION poison()
            """
        )
