"""Where a clock was set back, or ahead for a moment: what expires or is due too far in the future is not believed."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from saq import Job, Status

from actors.engine.locks import Lease, Locks
from app.limits.payments import POLICY, PaymentLimits
from app.limits.requests import RateLimited, RateLimiter, RateLimits, limit_key
from app.limits.visitor import Visitor
from app.people.codes import Codes, InvalidCode
from tasks import lost_jobs
from tasks.heartbeat import ALIVE, HEARTBEAT_KEY, KEPT, beat, heartbeat_age
from tasks.jobs import CRON_JOBS
from tasks.queue import PatientQueue, open_queue
from tasks.worker import SWEEP_SECONDS, DrainingWorker

HOUR_MS = 3_600_000
FOR_EVER = None
WALLET = 42

each_expiry = pytest.mark.parametrize("expiry_ms", [HOUR_MS, FOR_EVER])


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[PatientQueue]:
    opened = open_queue(redis_url)
    assert isinstance(opened, PatientQueue)
    yield opened
    await opened.disconnect()


def worker_on(queue: PatientQueue) -> DrainingWorker:
    return DrainingWorker(queue, functions=[], cron_jobs=CRON_JOBS)


@each_expiry
async def test_a_lock_or_a_reservation_that_lasts_longer_than_any_is_nobodys(
    redis_url: str, redis: Any, expiry_ms: int | None
) -> None:
    locks = Locks(redis_url, Lease(answer_seconds=60))
    async with locks.running(lambda _: None):
        key = f"wallet:lock:{{0}}:{WALLET}"
        for stale in (key, f"{key}:next"):
            await redis.set(stale, "x:1", px=expiry_ms)
            token, missed = await locks.take([WALLET, WALLET + 1])
            assert (bool(token), missed) == (True, set())
            assert 0 < await redis.pttl(key) <= 2_000
            assert not await redis.exists(f"{key}:next")
            await locks._release_now([WALLET, WALLET + 1], token)
        for present in (key, f"{key}:next"):
            await redis.set(present, "x:1", px=90)
            assert (await locks.take([WALLET]))[1] == {WALLET}, "what may be true is believed"
            await redis.delete(key, f"{key}:next")


@each_expiry
async def test_no_cron_job_waits_longer_than_its_period(queue: PatientQueue, redis: Any, expiry_ms: int | None) -> None:
    worker = worker_on(queue)
    await worker.schedule()
    jobs = [
        Job(each.function.__qualname__, key=f"cron:{each.function.__qualname__}", queue=queue) for each in CRON_JOBS
    ]
    far = time.time() + 40 * 86_400
    await redis.zadd("saq:wallet:incomplete", {job.id: far for job in jobs})
    await redis.set("saq:wallet:schedule", 1, px=expiry_ms)
    for job in jobs[:2]:  # as if they had been aborted just now
        await redis.zrem("saq:wallet:incomplete", job.id)
        await redis.set(job.abort_id, "why", px=expiry_ms)
    await worker.schedule()
    periods = [2, 2, 300, 300, 3600, 86_400, 86_400]
    for job, period in zip(jobs, periods, strict=True):
        due_at = await redis.zscore("saq:wallet:incomplete", job.id)
        assert due_at is not None
        assert due_at <= time.time() + period + 1
    assert 0 <= await redis.pttl("saq:wallet:schedule") <= 1_000
    kept = [await redis.zscore("saq:wallet:incomplete", job.id) for job in jobs[1:]]
    await worker.schedule()
    assert [await redis.zscore("saq:wallet:incomplete", job.id) for job in jobs[1:]] == kept, "what is right stays"


@each_expiry
async def test_a_dead_workers_job_is_found_though_it_was_heard_of_in_the_future(
    queue: PatientQueue, redis: Any, expiry_ms: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_jobs, "FETCHING_SECONDS", 0.01)
    ahead = int(time.time() * 1000) + HOUR_MS
    job = Job("charge_fees", key="cron:charge_fees", queue=queue, heartbeat=10, timeout=0, retries=3)
    job.status, job.started, job.touched, job.attempts = Status.ACTIVE, ahead, ahead, 1
    await redis.set(job.id, queue.serialize(job))
    await redis.rpush("saq:wallet:active", job.id)
    await redis.zadd("saq:wallet:incomplete", {job.id: 0})
    await redis.set("saq:wallet:sweep", 1, px=expiry_ms)
    assert await queue.sweep(SWEEP_SECONDS, abort=0.01) == [job.id]
    assert await redis.lrange("saq:wallet:queued", 0, -1) == [job.id.encode()]


@each_expiry
async def test_counts_that_outlast_their_windows_are_not_counted(
    redis_url: str, redis: Any, expiry_ms: int | None
) -> None:
    phone, user = "+77010000001", UUID(int=7)
    async with Redis.from_url(redis_url) as client:
        limiter = RateLimiter(client, RateLimits(sign_ins_per_phone=2), per_address=False)
        key = limit_key("sign-ins-per-phone", phone) + ":tallies"
        await redis.hset(key, "another process", "50")
        await _outlast(redis, key, expiry_ms)
        if expiry_ms:  # one without an expiry was only not given it yet
            await limiter.sign_in(phone, Visitor(address="192.0.2.1"))
            assert await redis.hvals(key) == [b"1"]
        else:
            with pytest.raises(RateLimited):
                await limiter.sign_in(phone, Visitor(address="192.0.2.1"))
        assert 0 < await redis.pttl(key) <= 900_000

        payments = PaymentLimits(client, 10)
        key = limit_key(POLICY, str(user))
        await redis.set(key, "50")
        await _outlast(redis, key, expiry_ms)
        payments.count(user)
        await payments.tell()
        assert 0 < await redis.pttl(key) <= 60_000
        if expiry_ms:
            assert await redis.get(key) == b"1"
            payments.count(user)
        await limiter.close()


async def test_a_code_that_would_live_for_longer_than_any_is_not_valid(redis_url: str, redis: Any) -> None:
    async with Redis.from_url(redis_url) as client:
        codes = Codes(client, "a secret of at least thirty-two bytes")
        owner = uuid4()
        for expiry_ms, valid in ((HOUR_MS, False), (200_000, True)):
            awaited, code = await codes.open("password", b"pending", owner=owner)
            await redis.pexpire(f"wallet:code:password:{owner}:{awaited.session_id}", expiry_ms)
            try:
                async with codes.redeemed("password", awaited.session_id, code, owner=owner) as pending:
                    assert (valid, pending) == (True, b"pending")
            except InvalidCode:
                assert not valid


async def test_a_heartbeat_from_the_future_is_none(redis: Any) -> None:
    await beat(redis)
    age = await heartbeat_age(redis)
    assert age is not None
    assert age < ALIVE
    await redis.pexpire(HEARTBEAT_KEY, KEPT + 2 * ALIVE)
    assert await heartbeat_age(redis) is None


async def _outlast(redis: Any, key: str, expiry_ms: int | None) -> None:
    if expiry_ms:
        await redis.pexpire(key, expiry_ms)
