"""Payments have a limit per user, over all processes, and nobody waits for it to be counted."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from actors.refusals import Unavailable
from app.limits import payments as payment_limits
from app.limits.payments import PaymentLimits
from app.limits.requests import RateLimited, RateLimits
from app.settings import Settings
from tests.helpers.users import register


def through(limits: PaymentLimits, user_id: UUID, tries: int) -> int:
    """How many of so many payments are let through."""
    let_in = 0
    for _ in range(tries):
        try:
            limits.count(user_id)
        except RateLimited:
            continue
        let_in += 1
    return let_in


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


class TestRoutes:
    """What clients see of it."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, limits=RateLimits(payments_per_user=5))

    async def test_the_sixth_is_refused_and_moves_nothing(self, client: httpx.AsyncClient) -> None:
        alice, bob = await register(client), await register(client)
        mine, his = await alice.open_wallet(holding="100"), await bob.open_wallet(holding="100")
        replays = [await mine.deposit("1", key="once") for _ in range(2)]
        assert [answer.status_code for answer in replays] == [201, 201]
        assert (await mine.send_all([(his, "1"), (his, "1")])).status_code == 201
        before = await mine.balance()
        refused = [
            await mine.deposit("1"),
            await mine.deposit("1", key="once"),
            await mine.withdraw("1"),
            await mine.send("1", his),
            await mine.send_all([(his, "1")], atomic=True),
        ]
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            assert answer.headers["RateLimit"] == f'"payments-per-user";r=0;t={answer.headers["Retry-After"]}'
            assert answer.headers["RateLimit-Policy"] == '"payments-per-user";q=5;w=60'
            assert answer.json()["detail"].startswith("At most 5 in a minute. ")
        assert await mine.balance() == before
        assert (await his.withdraw("1")).status_code == 201, "each user has a limit of their own"

    async def test_the_document_names_it_on_each_money_route(self, client: httpx.AsyncClient) -> None:
        paths = (await client.get("/docs/openapi.json")).json()["paths"]
        for route in ("deposit", "withdraw", "transfer", "transfers"):
            responses = paths[f"/users/wallets/{{id}}/{route}"]["post"]["responses"]
            ((_, content),) = responses["429"]["content"].items()
            ((_, example),) = content["examples"].items()
            assert example["value"]["code"] == "rate_limited"


class TestProcesses:
    """Two of these stand for two processes: they share nothing but Redis."""

    async def test_what_one_has_told_counts_for_the_other(self, redis: Redis) -> None:
        ours, theirs, user = PaymentLimits(redis, 10), PaymentLimits(redis, 10), uuid4()
        assert through(ours, user, 7) == 7
        assert through(theirs, user, 1) == 1
        await ours.tell()
        await theirs.tell()
        assert through(theirs, user, 9) == 2
        await theirs.tell()
        assert through(ours, user, 9) == 3, "it has not heard of them yet: that is the overshoot"
        await ours.tell()
        assert (through(ours, user, 9), through(theirs, user, 9)) == (0, 0)
        assert through(theirs, uuid4(), 9) == 9

    async def test_while_it_tells_nothing_is_lost_and_what_is_refused_is_not_counted(self, redis: Redis) -> None:
        limits, user = PaymentLimits(redis, 300), uuid4()
        let_in = 0
        for _ in range(20):
            telling = asyncio.create_task(limits.tell())
            while not telling.done():  # several each time: an answer from Redis takes a few turns of the event loop
                let_in += through(limits, user, 1)
                await asyncio.sleep(0)
        let_in += through(limits, user, 300)
        await limits.tell()
        assert let_in + through(limits, user, 300) == 300
        assert [int(await redis.get(key)) for key in await redis.keys("wallet:limit:*")] == [300]

    async def test_a_few_payments_are_no_question_to_redis(self, redis: Redis) -> None:
        limits, user = PaymentLimits(redis, 600_000), uuid4()
        through(limits, user, 599)
        await limits.tell()
        assert await redis.keys("wallet:limit:*") == []
        through(limits, user, 1)
        await limits.tell()
        assert [int(await redis.get(key)) for key in await redis.keys("wallet:limit:*")] == [600]

    async def test_a_window_passes_for_all(self, redis: Redis) -> None:
        ours, theirs, user = (*(PaymentLimits(redis, 3, window_seconds=3) for _ in range(2)), uuid4())
        assert through(ours, user, 4) == 3
        for each in (ours, theirs, ours):
            through(each, user, 1)
            await each.tell()
        assert through(ours, user, 1) == 0
        while not through(ours, user, 1):
            await ours.tell()
        while not through(theirs, user, 1):
            await theirs.tell()

    async def test_zero_switches_it_off(self, redis: Redis) -> None:
        limits, user = PaymentLimits(redis, 0), uuid4()
        async with limits.running():
            assert through(limits, user, 100) == 100
        await limits.tell()
        assert await redis.keys("wallet:limit:*") == []


class TestWithoutRedis:
    """Each process limits by itself, says so once, and tells later."""

    async def test_the_own_count_still_limits(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Redis.from_url("redis://127.0.0.1:1") as nobody:
            limits, user = PaymentLimits(nobody, 3, window_seconds=3), uuid4()
            assert through(limits, user, 4) == 3
            for _ in range(3):
                await limits.tell()
            assert through(limits, user, 4) == 0
            while not through(limits, user, 1):  # until the window has passed
                await limits.tell()
        assert len([each for each in caplog.records if "by each process alone" in each.message]) == 1

    async def test_what_could_not_be_told_is_told_later(self, redis: Redis) -> None:
        async with Redis.from_url("redis://127.0.0.1:1") as nobody:
            limits, user = PaymentLimits(nobody, 10), uuid4()
            through(limits, user, 4)
            await limits.tell()
        limits._redis = redis
        await limits.tell()
        assert through(PaymentLimits(redis, 10), uuid4(), 1) == 1
        assert [int(await redis.get(key)) for key in await redis.keys("wallet:limit:*")] == [4]


async def test_without_redis_nobodys_count_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    now = 100.0
    monkeypatch.setattr(payment_limits, "monotonic", lambda: now)
    monkeypatch.setattr(payment_limits, "USERS_MAX", 250)  # more than it looks at
    limits, users = PaymentLimits(redis, 2, window_seconds=3), [uuid4() for _ in range(300)]
    async with Redis.from_url("redis://127.0.0.1:1") as nobody:
        limits._redis = nobody
        limits.count(users[0])
        await limits.tell()
        for user in users[:250]:
            assert through(limits, user, 3) == (1 if user is users[0] else 2)
        for user in users[250:]:
            with pytest.raises(Unavailable):
                limits.count(user)
        assert [through(limits, user, 1) for user in users[:250]] == [0] * 250
        now += 4  # the windows have passed
        limits.count(users[-1])
    limits._redis = redis
    await limits.tell()
    for user in users:
        limits.count(user)
    assert len(limits._tallies) == 250


async def test_it_remembers_so_many_users_and_no_more(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payment_limits, "USERS_MAX", 50)
    limits, users = PaymentLimits(redis, 2), [uuid4() for _ in range(200)]
    for user in users:
        assert through(limits, user, 3) == 2
        assert len(limits._tallies) <= 50
    await limits.tell()
    told = [int(await redis.get(key)) for key in await redis.keys("wallet:limit:*")]
    assert told == [2] * 200, "what it has forgotten is told all the same"
    assert through(limits, users[-1], 1) == 0
    assert through(limits, users[0], 1) == 1
    await limits.tell()
    assert through(limits, users[0], 1) == 0, "and learned again"


async def test_idle_users_are_forgotten_when_their_window_is_over(redis: Redis) -> None:
    limits = PaymentLimits(redis, 2, window_seconds=3)
    for user in (uuid4() for _ in range(200)):
        limits.count(user)
    assert len(limits._tallies) == 200
    while limits._tallies:
        await limits.tell()
    assert not limits._to_tell
