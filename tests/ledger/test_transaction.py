"""Transactions that are begun while something else is done: used once, given back always."""

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial

import pytest

from actors.bank import Limits
from db.engine import UNAVAILABLE, Pool, connection_pool, engine
from db.tables import Wallet
from db.transaction import Begun, run, transaction
from tests.helpers.banks import banks, performed, receipts
from tests.helpers.postgres import connected, take_every_slot
from tests.helpers.purses import purse, purses
from tests.helpers.waiting import GIVE_UP_SECONDS, until

_SLOTS = 2
_OPEN = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"


async def assert_all_slots_are_free(database_url: str) -> None:
    """As many as there are can be had at once, and no transaction was left open."""
    async with connected(database_url) as connection:
        await take_every_slot()
        assert await connection.fetchval(_OPEN) == 0


async def test_a_begun_transaction_is_used_once_and_those_after_it_are_begun_anew(database_url: str) -> None:
    async with connection_pool(Pool(max_size=_SLOTS)):
        alice = await purse()
        begun = Begun()
        ids = set()
        for name in ("first", "second", "third"):
            async with transaction(begun=begun):
                await run('UPDATE "wallet" SET "name" = $1 WHERE "id" = $2', name, alice.id)
                (row,) = await run("SELECT pg_current_xact_id()::text AS id")
                ids.add(row["id"])
            assert (await alice.row())["name"] == name, "committed, and not only at the end"
        assert len(ids) == 3
        await begun.end()
        await assert_all_slots_are_free(database_url)


@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
async def test_wherever_its_owner_is_cancelled_the_slot_comes_back(database_url: str, used: bool) -> None:
    async def own() -> None:
        begun = Begun()
        try:
            await asyncio.sleep(0)
            if used:
                async with transaction(begun=begun):
                    await run("SELECT pg_sleep(0.0001)")
        finally:
            await begun.end()

    async with connection_pool(Pool(max_size=_SLOTS)):
        for turns in range(60):
            for _ in range(3):
                task = asyncio.create_task(own())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if turns % 2:
                    await asyncio.sleep(0.0001 * turns)  # past the first answers of PostgreSQL
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            assert not engine().transaction_exists()
        await assert_all_slots_are_free(database_url)


async def test_a_begun_transaction_whose_connection_is_killed_gives_its_slot_back(database_url: str) -> None:
    async with connection_pool(Pool(max_size=_SLOTS)), connected(database_url) as killer:
        for used in (True, False) * 5:
            begun = Begun()
            await until(partial(killer.fetchval, _OPEN))
            await killer.execute(  # and wait until it is gone: the next round must not take it for its own
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
            if used:
                with pytest.raises(UNAVAILABLE):
                    async with transaction(begun=begun):
                        await Wallet.raw("SELECT 1")
            await begun.end()
        await assert_all_slots_are_free(database_url)


@pytest.mark.parametrize("silent_from", ["BEGIN", "the end"])
async def test_a_begun_transaction_that_is_not_needed_does_not_wait_for_a_server_that_is_silent(
    database_url: str, silent_from: str
) -> None:
    async with connection_pool(Pool(min_size=1, max_size=_SLOTS, statement_timeout_seconds=300)):
        async with transaction(reserved=True):
            (row,) = await run("SELECT pg_backend_pid() AS pid")
        begun = Begun()
        if silent_from == "the end":
            async with connected(database_url) as connection:
                await until(partial(connection.fetchval, _OPEN))
        os.kill(row["pid"], signal.SIGSTOP)
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await begun.end()
        finally:
            os.kill(row["pid"], signal.SIGCONT)
        await until(partial(_has_ended, database_url, row["pid"]))  # hung up, and not kept for later
        await assert_all_slots_are_free(database_url)


async def _has_ended(database_url: str, pid: int) -> bool:
    async with connected(database_url) as connection:
        return not await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)


async def test_batches_that_get_none_of_their_wallets_leave_no_transaction_open(
    database_url: str, redis_url: str
) -> None:
    async with connection_pool(Pool(max_size=_SLOTS)):
        async with banks(2, redis_url, Limits(batch_max=1)) as (left, right):
            (alice,) = await purses(1, holding="1.00", bank=left)
            both = await asyncio.gather(
                *(performed(bank, [alice.deposit("1.00") for _ in range(40)]) for bank in (left, right))
            )
            assert [len(receipts(came_to)) for came_to in both] == [40, 40]
        await assert_all_slots_are_free(database_url)
