"""
Limits that processes share by way of Redis, and keep without it.

Two limiters stand for two processes: they share nothing but Redis. It is reached over a cable that can fall silent.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from actors.refusals import Unavailable
from app.limits.requests import RateLimited, RateLimiter, RateLimits
from app.limits.tallies import Tallies
from app.limits.visitor import Visitor
from app.people.codes import AwaitedCode, Codes, CodesUnavailable
from app.proof.cable import Cable, cable
from tests.helpers.waiting import until

MOST = 30
PHONE = "+77011234567"
CONNECTIONS_MAX = 20  # for codes

Process = Callable[[], RateLimiter]


@pytest.fixture
async def way(redis_url: str) -> AsyncIterator[Cable]:
    async with cable(redis_url) as between:
        yield between


@pytest.fixture
async def process(way: Cable) -> AsyncIterator[Process]:
    """A limiter more, with a client of its own."""
    limiters: list[RateLimiter] = []
    clients: list[Redis] = []

    def make() -> RateLimiter:
        clients.append(Redis.from_url(way.url, socket_timeout=None))
        limiters.append(RateLimiter(clients[-1], RateLimits(sign_ins_per_phone=MOST), per_address=False))
        return limiters[-1]

    yield make
    for each in limiters:
        await each.close()
    for client in clients:
        await client.aclose()


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """Redis is late after a fifth of a second, in a test that is about that."""
    monkeypatch.setattr("app.limits.requests.COUNT_SECONDS", 0.2)


async def sign_in(limiter: RateLimiter, phone_number: str = PHONE) -> str:
    try:
        await limiter.sign_in(phone_number, Visitor(address="192.0.2.7"))
    except (RateLimited, Unavailable) as refusal:
        return refusal.code
    return "passes"


async def passed(limiter: RateLimiter, tries: int, phone_number: str = PHONE) -> int:
    """How many of so many at the same time."""
    answers = Counter(await asyncio.gather(*(sign_in(limiter, phone_number) for _ in range(tries))))
    assert answers.keys() <= {"passes", "rate_limited"}
    return answers["passes"]


class TestWithRedis:
    """As long as it answers, the limit is one for all."""

    async def test_whatever_arrives_where_and_when_the_limit_passes_and_no_more(self, process: Process) -> None:
        chance = random.Random(7)
        for round_ in range(40):
            processes, phone_number = [process() for _ in range(3)], f"+770100000{round_:02}"
            sizes = [chance.randint(1, 40) for _ in range(chance.randint(1, 5))]
            waves = [[chance.choice(processes) for _ in range(size)] for size in sizes]
            answers: Counter[str] = Counter()
            for wave in waves:
                answers.update(await asyncio.gather(*(sign_in(each, phone_number) for each in wave)))
            assert answers["passes"] == min(sum(sizes), MOST), f"waves of {sizes}: {answers}"

    async def test_an_attack_costs_redis_what_the_limit_allows_and_one_connection(
        self, process: Process, way: Cable, redis_url: str
    ) -> None:
        limiter = process()
        async with Redis.from_url(redis_url) as redis:
            before = (await redis.info("commandstats")).get("cmdstat_eval", {"calls": 0})["calls"]
            assert await passed(limiter, 4000) == MOST
            asked = (await redis.info("commandstats"))["cmdstat_eval"]["calls"] - before
        assert asked <= MOST
        await asyncio.gather(*(sign_in(limiter, f"+7701{n:07}") for n in range(1000)))
        assert connections(way) == 1

    async def test_a_redis_that_has_lost_everything_is_told_again(self, process: Process, redis_url: str) -> None:
        ours, theirs = process(), process()
        assert (await passed(ours, 10), await passed(theirs, 5), await passed(ours, 5)) == (10, 5, 5)
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()
        assert await passed(ours, 3) == 3
        assert await passed(ours, 20) == MOST - 23, "what it knew of the other counts on"
        assert await passed(theirs, 20) == 0
        assert await passed(process(), 20) == 0

    async def test_what_is_refused_is_not_counted(
        self, way: Cable, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with Redis.from_url(way.url) as one, Redis.from_url(way.url) as other, Redis.from_url(redis_url) as redis:
            limits = RateLimits(codes_per_phone=2)  # and three a day
            ours, theirs = (RateLimiter(each, limits, per_address=False) for each in (one, other))
            for _ in range(2):
                await theirs.code(None, PHONE, Visitor(address="192.0.2.7"))
            for _ in range(5):
                with pytest.raises(RateLimited):
                    await ours.code(None, PHONE, Visitor(address="192.0.2.7"))
            await redis.delete(*await redis.keys("wallet:limit:codes-per-phone:*"))
            monkeypatch.setattr("app.limits.tallies.monotonic", lambda: monotonic() + 3600)
            await ours.code(None, PHONE, Visitor(address="192.0.2.7"))
            with pytest.raises(RateLimited, match="At most 3 in a day"):
                await ours.code(None, PHONE, Visitor(address="192.0.2.7"))

    async def test_what_one_refuses_uses_up_nobodys_limit_elsewhere(self, redis_url: str) -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Redis.from_url(redis_url)) for _ in range(3)]
            limits = RateLimits(codes_per_phone=20, codes_per_address=20)
            first, second, third = (RateLimiter(each, limits, per_address=True) for each in clients)
            attacker, victim = Visitor(address="192.0.2.66"), Visitor(address="192.0.2.7")
            for n in range(20):
                await first.code(None, f"+770100000{n:02}", attacker)
            refused = await asyncio.gather(
                *(second.code(None, PHONE, attacker) for _ in range(20)), return_exceptions=True
            )
            assert all(isinstance(each, RateLimited) for each in refused)

            async def is_forgotten() -> bool:
                keys = await clients[0].keys("wallet:limit:codes-per-phone:*")
                counted = [sum(map(int, await cast(Any, clients[0].hvals(key)))) for key in keys]
                return sum(counted) == 20

            await until(is_forgotten)
            await third.code(None, PHONE, victim)

    async def test_when_memory_is_full_redis_counts_alone(self, process: Process) -> None:
        ours, theirs = process(), process()
        for each in (ours, theirs):
            each._tallies = Tallies(1)
            assert await passed(each, 1, "+77010000000") == 1
        for n in range(1, 4):
            phone_number = f"+7701000000{n}"
            assert await passed(ours, MOST // 2 + 2, phone_number) == MOST // 2 + 2
            assert await passed(theirs, MOST, phone_number) == MOST // 2 - 2
            assert await passed(ours, 5, phone_number) == 0
        assert len(ours._tallies) == 1

    async def test_a_process_that_comes_later_takes_over_the_end_of_the_window(
        self, process: Process, redis_url: str
    ) -> None:
        await passed(process(), MOST)
        async with Redis.from_url(redis_url) as redis:
            for key in await redis.keys("wallet:limit:*"):
                assert 890 < await redis.ttl(key) <= 900
                await redis.expire(key, 300)  # as if it had begun ten minutes ago
        late = process()
        with pytest.raises(RateLimited) as refused:
            await late.sign_in(PHONE, Visitor(address="192.0.2.7"))
        assert 290 < int(refused.value.headers["Retry-After"]) <= 300


def connections(way: Cable) -> int:
    """How many there are, each of which has two ends."""
    return len(way._writers) // 2


@pytest.mark.usefixtures("impatience")
class TestSilentRedis:
    """It takes what is sent, and answers nothing."""

    async def test_each_process_goes_on_by_its_own_count(self, process: Process, way: Cable) -> None:
        way.hush()
        ours, theirs = process(), process()
        assert [*await asyncio.gather(passed(ours, 3000), passed(theirs, 3000))] == [MOST, MOST]
        way.speak()
        await asyncio.sleep(0.3)  # it is left alone for so long
        for phone_number in (PHONE, "+77010000000"):
            assert await passed(ours, 5, phone_number) == (0 if phone_number == PHONE else 5)

    async def test_it_falls_silent_while_they_wait_for_it(self, process: Process, way: Cable) -> None:
        ours, theirs = process(), process()
        assert (await passed(ours, 8), await passed(theirs, 8)) == (8, 8)
        way.hush()
        # Ours knows nothing of theirs yet, theirs knows of ours.
        assert [*await asyncio.gather(passed(ours, 3000), passed(theirs, 3000))] == [MOST - 8, MOST - 16]

    async def test_when_it_is_back_the_total_is_known_to_all_and_nothing_was_counted_twice(
        self, process: Process, way: Cable
    ) -> None:
        ours, theirs = process(), process()
        for _ in range(4):  # each time what was sent arrives late, and its answer too late
            way.hush()
            assert [*await asyncio.gather(passed(ours, 3), passed(theirs, 2))] == [3, 2]
            way.speak()
            await asyncio.sleep(0.3)
        assert (await passed(ours, 1), await passed(theirs, 1)) == (1, 1)
        assert await passed(process(), MOST) == MOST - 22
        assert (await passed(ours, 5), await passed(theirs, 5)) == (0, 0)

    async def test_what_can_be_counted_nowhere_is_refused_and_nobodys_count_makes_room(
        self, process: Process, way: Cable
    ) -> None:
        limiter = process()
        limiter._tallies = Tallies(20)
        assert await passed(limiter, MOST - 1) == MOST - 1
        way.hush()
        assert await passed(limiter, 5) == 1
        answers = [await sign_in(limiter, f"+770100000{n:02}") for n in range(40)]
        assert answers == ["passes"] * 19 + ["unavailable"] * 21
        assert await sign_in(limiter) == "rate_limited"
        way.speak()
        await asyncio.sleep(0.3)
        assert await sign_in(limiter, "+77010000039") == "passes"

    async def test_a_thousand_who_go_away_leave_the_count_and_the_connection_as_they_were(
        self, process: Process, way: Cable
    ) -> None:
        limiter, chance = process(), random.Random(7)
        for _ in range(10):
            waiting = [asyncio.create_task(sign_in(limiter, f"+7701{chance.randrange(10**7):07}")) for _ in range(100)]
            await asyncio.sleep(0)
            for task in waiting:
                if chance.random() < 0.3:
                    way.hush()
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait(waiting)
            way.speak()
        await asyncio.sleep(0.3)
        assert await passed(limiter, 10) == 10
        assert await passed(process(), MOST) == MOST - 10, "each got the answer to what it had asked"
        await until(lambda: connections(way) <= 2)


class TestCodes:
    """Those who wait for Redis in order to keep a code wait for one of a few connections."""

    async def test_five_hundred_at_once_share_them(self, way: Cable) -> None:
        async with Redis.from_url(way.url) as redis:
            codes, most = Codes(redis, "secret"), 0
            opening = [asyncio.create_task(codes.open("reset", str(n).encode())) for n in range(500)]
            while not all(task.done() for task in opening):
                most = max(most, connections(way))
                await asyncio.sleep(0)
            assert 1 < most <= CONNECTIONS_MAX
            redeemed = [await redeem(codes, *task.result()) for task in opening[::50]]
            assert redeemed == [str(n).encode() for n in range(0, 500, 50)]

    async def test_who_goes_away_gives_their_turn_back_and_nobody_gets_anothers_answer(
        self, way: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chance = random.Random(7)
        async with Redis.from_url(way.url) as redis:
            codes = Codes(redis, "secret")
            with monkeypatch.context() as hasty:
                hasty.setattr("app.people.codes.STORE_SECONDS", 0.2)
                way.hush()
                waiting = [asyncio.create_task(codes.open("reset", b"gone")) for _ in range(1000)]
                for task in waiting:
                    await asyncio.sleep(0)
                    if chance.random() < 0.5:
                        task.cancel()
                answers = await asyncio.gather(*waiting, return_exceptions=True)
                assert {type(answer) for answer in answers} == {CodesUnavailable, asyncio.CancelledError}
                way.speak()
            sessions = await asyncio.gather(*(codes.open("reset", str(n).encode()) for n in range(200)))
            assert [await redeem(codes, *each) for each in sessions] == [str(n).encode() for n in range(200)]
            assert connections(way) <= CONNECTIONS_MAX


async def redeem(codes: Codes, awaited: AwaitedCode, code: str) -> bytes:
    async with codes.redeemed("reset", awaited.session_id, code) as pending:
        return pending
