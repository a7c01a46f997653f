"""Two processes over one Redis share a user's limit of payments."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from app.limits.payments import POLICY
from db.engine import Pool, connection_pool
from tests.helpers.postgres import assert_audit
from tests.helpers.users import register
from tests.helpers.waiting import until
from tests.helpers.wallet_processes import RealServer, server

MOST = 40


@pytest.fixture
async def processes(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[list[RealServer]]:
    addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with ExitStack() as stack:
        running = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            limit = {"WALLET_LIMITS_PAYMENTS_PER_USER": str(MOST)}
            running.append(stack.enter_context(server("api", folder=tmp_path / name, **limit, **addresses)))
        for each in running:
            each.wait_until_live()
        async with connection_pool(Pool()):
            yield running
            await assert_audit()


async def as_many_are_told(redis_url: str, payments: int) -> bool:
    """Whether all processes together have told of so many."""
    async with Redis.from_url(redis_url) as redis:
        keys = await redis.keys(f"wallet:limit:{POLICY}:*")
        return sum([int(await redis.get(key) or 0) for key in keys]) == payments


async def test_what_one_process_lets_through_the_other_does_not(processes: list[RealServer], redis_url: str) -> None:
    one, other = (httpx.AsyncClient(base_url=each.url, timeout=60) for each in processes)
    async with one, other:
        wallet = await (await register(one)).open_wallet()
        moved = 0
        while (answer := await wallet.deposit("1")).status_code == 201:
            moved += 1
        assert (moved, answer.status_code) == (MOST, 429)
        await until(partial(as_many_are_told, redis_url, MOST))
        # The other hears of it with the first payment that it tells of itself.
        wallet.owner.client = other
        assert (await wallet.deposit("1")).status_code == 201
        moved += 1
        await until(partial(as_many_are_told, redis_url, MOST + 1))
        while (answer := await wallet.deposit("1")).status_code == 201:
            moved += 1
            assert moved < 2 * MOST, "as many again: it has not heard of the others"
        assert answer.json()["code"] == "rate_limited"
        assert await wallet.balance() == moved
