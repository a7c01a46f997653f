"""A process that is frozen in mid-transaction holds up who needs its wallets, and not for long; nobody else at all."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
from msgspec.structs import replace

from actors.bank import Limits
from tests.helpers.banks import banks, receipts
from tests.helpers.postgres import connected, held_up, until_waiting
from tests.helpers.purses import purses
from tests.helpers.users import register
from tests.helpers.waiting import GIVE_UP_SECONDS, until
from tests.helpers.wallet_processes import server

_DEADLINE_SECONDS = 6
"""More than a batch may take, and less than PostgreSQL once let a transaction idle."""


async def test_who_needs_its_wallets_waits_no_longer_than_a_batch_may_take_and_the_others_not_at_all(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    addresses = {"DATABASE_URL": database, "REDIS_URL": redis_url}
    async with banks(1, redis_url, Limits(deadline_seconds=_DEADLINE_SECONDS)) as (bank,):
        (bob,) = await purses(1, holding="100.00", bank=bank)
        with server("api", folder=tmp_path, **addresses) as neighbour:
            neighbour.wait_until_live()
            async with httpx.AsyncClient(base_url=neighbour.url, timeout=GIVE_UP_SECONDS) as client:
                ann = await (await register(client)).open_wallet(holding="100")
                hers = replace(bob, id=ann.id, number=ann.number, owner=ann.owner.user_id)
                async with held_up(database, hers):
                    asked = asyncio.create_task(ann.withdraw("1"))
                    await until_waiting(database)
                    os.kill(neighbour.process.pid, signal.SIGSTOP)
                try:
                    await until(lambda: _idles_in_transaction(database))
                    waiting = asyncio.create_task(bank.perform(hers.withdraw("10.00")))
                    served = [await bank.perform(bob.withdraw("1.00")) for _ in range(20)]
                    assert not waiting.done()
                    assert len(receipts([*served, await waiting])) == 21
                finally:
                    os.kill(neighbour.process.pid, signal.SIGCONT)
                answer = await asked
                assert answer.status_code in (201, 503)
        assert await hers.balance() == ("89.00" if answer.status_code == 201 else "90.00")


async def _idles_in_transaction(database_url: str) -> bool:
    async with connected(database_url) as connection:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )
        )
