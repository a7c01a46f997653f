"""Jobs of workers that have died are given to others; those that are being fetched or have just ended are not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from saq import Job, Status
from saq.utils import now

from tasks import lost_jobs
from tasks.queue import PatientQueue, open_queue
from tasks.worker import SWEEP_SECONDS
from tests.helpers.waiting import GIVE_UP_SECONDS, until

ACTIVE, QUEUED = "saq:wallet:active", "saq:wallet:queued"


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[PatientQueue]:
    opened = open_queue(redis_url)
    assert isinstance(opened, PatientQueue)
    await opened.connect()
    yield opened
    await opened.disconnect()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is fetching anything here."""
    monkeypatch.setattr(lost_jobs, "FETCHING_SECONDS", 0.01)


async def fetched(queue: PatientQueue, key: str, **options: Any) -> Job:
    """A job in the hands of a worker that has not begun it."""
    assert await queue.enqueue("charge_fees", key=key, **options)
    job = await queue.dequeue(timeout=5)
    assert job
    assert job.key == key
    return job


async def stuck(queue: PatientQueue, key: str, **options: Any) -> Job:
    """A job that was begun long ago, and not heard of since."""
    job = await fetched(queue, key, heartbeat=1, retries=3, **options)
    job.attempts = 1
    await job.update(status=Status.ACTIVE, started=1, touched=1)
    return job


async def test_a_job_that_is_being_fetched_is_left_to_its_worker(queue: PatientQueue) -> None:
    job = await fetched(queue, "young")
    # It was due long ago: nothing that is kept of it says that somebody has only just taken it.
    await job.update(queued=1, scheduled=1)
    sweeping = asyncio.create_task(queue.sweep(SWEEP_SECONDS, abort=0.01))
    await until(lambda: queue.redis.exists("saq:wallet:sweep"))
    await job.update(status=Status.ACTIVE, started=now())  # as the worker does then
    assert await sweeping == []
    assert await queue.redis.lrange(ACTIVE, 0, -1) == [job.id.encode()]  # type: ignore[misc]
    kept = await queue.job("young")
    assert kept
    assert kept.status == Status.ACTIVE
    assert not await queue.redis.exists(job.abort_id)


async def test_one_that_nobody_begins_is_queued_again(queue: PatientQueue, hasty: None) -> None:
    lost, silent = await fetched(queue, "lost"), await stuck(queue, "silent")
    await queue.redis.rpush(ACTIVE, "saq:job:wallet:nothing is kept of it")  # type: ignore[misc]
    swept = await queue.sweep(SWEEP_SECONDS, abort=0.01)
    assert swept == [lost.id, silent.id, "saq:job:wallet:nothing is kept of it"]
    assert await queue.redis.lrange(ACTIVE, 0, -1) == []  # type: ignore[misc]
    assert await queue.redis.lrange(QUEUED, 0, -1) == [lost.id.encode(), silent.id.encode()]  # type: ignore[misc]
    assert await queue.sweep(SWEEP_SECONDS, abort=0.01) == [], "nobody sweeps twice in a while"


async def test_one_without_another_attempt_is_given_up(queue: PatientQueue, hasty: None) -> None:
    job = await fetched(queue, "last", heartbeat=1, retries=1)
    await job.update(status=Status.ACTIVE, started=1, touched=1, attempts=1)
    assert await queue.sweep(SWEEP_SECONDS, abort=0.01) == [job.id]
    kept = await queue.job("last")
    assert kept
    assert kept.status == Status.ABORTED
    assert await queue.redis.lrange(QUEUED, 0, -1) == []  # type: ignore[misc]


@pytest.mark.parametrize("ttl", [-1, 60])
async def test_one_that_ends_meanwhile_is_not_run_again_and_keeps_nobody_from_the_rest(
    queue: PatientQueue, redis_url: str, hasty: None, ttl: int
) -> None:
    """With a negative `ttl` nothing is kept of it."""
    ended, dead = await stuck(queue, "ended", ttl=ttl), await stuck(queue, "dead")
    worker = open_queue(redis_url)
    # Who is dead is waited for, so for a moment; who is alive ends in it.
    sweeping = asyncio.create_task(queue.sweep(SWEEP_SECONDS, abort=2))
    async with asyncio.timeout(GIVE_UP_SECONDS):
        await until(lambda: queue.redis.exists(ended.abort_id))
        for _ in range(50):  # until the sweep listens
            await worker.finish(worker.deserialize(ended.to_dict()) or ended, Status.COMPLETE)
            await asyncio.sleep(0.02)
        swept = await sweeping
    await worker.disconnect()
    assert swept == [dead.id]
    assert await queue.redis.lrange(QUEUED, 0, -1) == [dead.id.encode()]  # type: ignore[misc]
