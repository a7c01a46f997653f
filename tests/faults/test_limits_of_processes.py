"""Two processes limit sign-ins together, and each by itself while Redis is silent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.proof.cable import Cable, cable
from tests.helpers.tokens import sign_in
from tests.helpers.waiting import until
from tests.helpers.wallet_processes import server

MOST = 6


@pytest.fixture
async def way(redis_url: str) -> AsyncIterator[Cable]:
    async with cable(redis_url) as between:
        yield between


@pytest.fixture
async def processes(database_url: str, way: Cable, tmp_path: Path) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two, which get to Redis over the cable."""
    with ExitStack() as stack:
        running = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            variables = {"DATABASE_URL": database_url, "REDIS_URL": way.url}
            limit = {"WALLET_LIMITS_SIGN_INS_PER_PHONE": str(MOST)}
            running.append(stack.enter_context(server("api", folder=tmp_path / name, **limit, **variables)))
        for each in running:
            await asyncio.to_thread(each.wait_until_live)
        limits = httpx.Limits(max_connections=None)
        clients = [httpx.AsyncClient(base_url=each.url, timeout=300, limits=limits) for each in running]
        yield clients
        for client in clients:
            await client.aclose()
        await asyncio.to_thread(stack.close)  # as long as the cable works


async def compared(client: httpx.AsyncClient, tries: int, phone_number: str) -> int:
    """How many passwords of so many at the same time were compared with that of this phone number."""
    answers = await asyncio.gather(*(sign_in(client, phone_number, "not the password") for _ in range(tries)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {401, 429}, statuses
    return statuses[401]


async def test_a_silent_redis_lets_nobody_try_more_often_than_the_limit_of_each_process(
    processes: list[httpx.AsyncClient], way: Cable
) -> None:
    one, other = processes
    assert await compared(one, 2, "+77010000001") + await compared(other, 20, "+77010000001") == MOST
    way.hush()
    both = await asyncio.gather(*(compared(each, 100, "+77010000002") for each in processes))
    assert list(both) == [MOST, MOST]
    assert [await compared(each, 2, "+77010000003") for each in processes] == [2, 2]
    way.speak()

    async def they_share() -> bool:
        """Whether they know of each other's sign-ins again."""
        phone_number = f"+7701{next(numbers):07}"
        return await compared(one, MOST, phone_number) + await compared(other, 1, phone_number) == MOST

    numbers = iter(range(100, 10_000))
    await until(they_share)
    # What nobody could be told of before is told with the next that is counted.
    passed = await compared(one, 1, "+77010000003") + await compared(other, 1, "+77010000003")
    passed += await compared(one, MOST, "+77010000003") + await compared(other, MOST, "+77010000003")
    assert 4 + passed == MOST
