"""The worker dashboard: what staff see of real jobs, and what operators may do about those that failed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest
from litestar import Litestar
from redis.asyncio import Redis
from saq import Job, Status, Worker
from saq.queue.redis import RedisQueue
from saq.types import Context

from actors.orders import ChargeFee, Receipt
from app.settings import Settings
from tasks import fees, sweep
from tasks.job_history import KEPT_MAX
from tasks.jobs import CRON_JOBS, Tools, charge_fees, forget_old, refresh_rates
from tasks.queue import QUEUE_NAME, open_queue
from tasks.rates.api import RatesSource
from tests.helpers.dashboard import Dashboard
from tests.helpers.fees import FeeDay, make_due
from tests.helpers.prices import publish_rates
from tests.helpers.staff import signed_in
from tests.helpers.users import register
from tests.helpers.waiting import GIVE_UP_SECONDS


@pytest.fixture
async def operator(app: Litestar) -> AsyncIterator[Dashboard]:
    async with signed_in(app, "ayan", operator=True) as staff:
        yield Dashboard(staff)


@pytest.fixture
async def viewer(app: Litestar) -> AsyncIterator[Dashboard]:
    async with signed_in(app, "vera", operator=False) as staff:
        yield Dashboard(staff)


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[RedisQueue]:
    queue = open_queue(settings.redis_url)
    yield queue
    await queue.disconnect()


@pytest.fixture
def worker(queue: RedisQueue, tmp_path: Path) -> Worker[Context]:
    """A worker that takes a job when it is told to, by `process()`; of its tools it has the media folder."""
    worker: Worker[Context] = Worker(queue, functions=[forget_old, charge_fees, refresh_rates], dequeue_timeout=5)
    nothing = cast(Any, None)
    worker.context["tools"] = Tools(  # type: ignore[typeddict-unknown-key]
        redis=nothing,
        bank=nothing,
        board=nothing,
        delivery=nothing,
        rates=nothing,
        media_folder=tmp_path,
        development=True,
    )
    return worker


@pytest.fixture
async def broken(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database in which `forget_old` fails, until it is mended."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE refresh_token RENAME TO hidden")
    yield connection
    await connection.close()


async def mend(connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE hidden RENAME TO refresh_token")


async def run_scheduled(worker: Worker[Context], name: str) -> None:
    """Let a cron job's time have come, and run it to its end, as often as it may try."""
    for cron in CRON_JOBS:
        if cron.function.__qualname__ == name:
            job = Job(name, key=f"cron:{name}", retries=cron.retries or 1, ttl=cron.ttl or 600)
            await worker.queue.enqueue(job)
            while not job.completed:
                await worker.process()
                await job.refresh()


async def test_a_job_that_failed_stays_in_sight_until_an_operator_has_it_done(
    operator: Dashboard, worker: Worker[Context], broken: asyncpg.Connection
) -> None:
    await run_scheduled(worker, "forget_old")
    # The next run takes the place of the one that failed, as far as SAQ is concerned.
    await worker.queue.enqueue("forget_old", key="cron:forget_old", scheduled=2_000_000_000)
    (failed,) = await operator.jobs("failed")
    assert (failed["function"], failed["attempts"], failed["meta"]) == ("forget_old", 3, {"cron": "forget_old"})
    assert 'relation "refresh_token" does not exist' in failed["error"]
    retry = f"api/queues/{QUEUE_NAME}/jobs/{failed['key']}/retry"

    assert (await operator.post(retry)).status_code == 200
    await worker.process()
    (failed,) = await operator.jobs("failed")
    assert (failed["attempts"], failed["status"]) == (4, "failed")

    await mend(broken)
    assert (await operator.post(retry)).status_code == 200
    assert (await operator.post(retry)).status_code == 409, "it waits already"
    await worker.process()
    assert await operator.jobs("failed") == []
    (done,) = await operator.jobs("complete")
    assert (done["key"], done["result"]["refresh_token"], done["error"]) == (failed["key"], 0, None)
    assert [job["key"] for job in await operator.jobs("scheduled")] == ["cron:forget_old"]


async def test_rates_that_could_not_be_had_for_longer_than_a_period_are_a_failed_job(
    app: Litestar, operator: Dashboard, worker: Worker[Context], settings: Settings
) -> None:
    tools: Tools = worker.context["tools"]  # type: ignore[typeddict-item]
    async with Redis.from_url(settings.redis_url) as redis:
        unreachable = RatesSource(base_url="http://127.0.0.1:9")
        worker.context["tools"] = replace(tools, redis=redis, rates=unreachable, development=False)  # type: ignore[typeddict-unknown-key]
        await publish_rates(settings.redis_url, age=timedelta(minutes=58))
        await run_scheduled(worker, "refresh_rates")
        assert await operator.jobs("failed") == []  # it is no more than late
        (done,) = await operator.jobs("complete")
        assert done["result"]["outcome"] == "failed"
        await publish_rates(settings.redis_url, age=timedelta(minutes=66))
        await run_scheduled(worker, "refresh_rates")
    (failed,) = await operator.jobs("failed")
    assert (failed["function"], failed["attempts"]) == ("refresh_rates", 1)
    assert "NoFreshRates: The rate source could not be reached" in failed["error"]


async def test_all_failures_are_retried_at_once(
    operator: Dashboard, worker: Worker[Context], broken: asyncpg.Connection
) -> None:
    for _ in range(3):
        await run_scheduled(worker, "forget_old")
    keys = {job["key"] for job in await operator.jobs("failed")}
    assert len(keys) == 3
    await mend(broken)
    answer = await operator.post(f"api/queues/{QUEUE_NAME}/retry-all", {"status": "failed"})
    assert answer.json() == {"count": 3}
    for _ in range(3):
        await worker.process()
    assert {job["key"] for job in await operator.jobs("complete")} == keys


async def test_cron_jobs_are_shown_with_what_saq_has_scheduled_and_what_became_of_the_last_run(
    operator: Dashboard, worker: Worker[Context], broken: asyncpg.Connection
) -> None:
    shown = await operator.cron()
    assert list(shown) == sorted(cron.function.__qualname__ for cron in CRON_JOBS)
    assert {cron["next_run"] for cron in shown.values()} == {0}, "where no worker has ever run nothing is planned"

    schedule = Worker(worker.queue, functions=[], cron_jobs=CRON_JOBS).schedule
    await schedule()
    shown = await operator.cron()
    for name, cron in shown.items():
        planned = await worker.queue.job(f"cron:{name}")
        assert planned
        assert cron["next_run"] == planned.scheduled * 1000
        assert cron["last_enqueued"] == 0
        assert (cron["description"], cron["enabled"]) == (planned_docstring(name), True)
    assert shown["charge_fees"]["cron"] == "*/5 * * * *"

    (job,) = [job for job in await operator.jobs("scheduled") if job["function"] == "forget_old"]
    assert (await operator.post(f"api/queues/{QUEUE_NAME}/jobs/{job['key']}/promote")).status_code == 200
    for _ in range(3):
        await worker.process()
    await worker.worker_info()
    found = (await operator.get(f"api/cron/{QUEUE_NAME}/forget_old")).json()["cron"]
    assert found["next_run"] > datetime.now(UTC).timestamp() * 1000, "a worker lives, and will schedule it"
    (failed,) = await operator.jobs("failed")
    assert (found["last_key"], found["last_enqueued"]) == (failed["key"], failed["started"])
    assert [run["key"] for run in found["history"]] == [failed["key"]]
    assert (await operator.get(f"api/queues/{QUEUE_NAME}/jobs/{failed['key']}")).json()["job"]["status"] == "failed"
    assert (await operator.get(f"api/cron/{QUEUE_NAME}/nope")).status_code == 404


def planned_docstring(name: str) -> str | None:
    (function,) = (cron.function for cron in CRON_JOBS if cron.function.__qualname__ == name)
    return function.__doc__


async def test_an_operator_runs_a_cron_job_now_beside_its_schedule(
    operator: Dashboard, worker: Worker[Context]
) -> None:
    assert (await operator.post(f"api/cron/{QUEUE_NAME}/forget_old/enqueue")).status_code == 200
    (queued,) = await operator.jobs("queued")
    await worker.process()
    (done,) = await operator.jobs("complete")
    assert done["key"] == queued["key"] != "cron:forget_old"
    history = (await operator.get(f"api/cron/{QUEUE_NAME}/forget_old")).json()["cron"]["history"]
    assert [(run["key"], run["manual"]) for run in history] == [(done["key"], True)]


async def test_of_runs_that_found_nothing_to_do_the_last_is_kept(operator: Dashboard, worker: Worker[Context]) -> None:
    for _ in range(3):
        await run_scheduled(worker, "forget_old")
    (done,) = await operator.jobs("complete")
    cron = (await operator.get(f"api/cron/{QUEUE_NAME}/forget_old")).json()["cron"]
    assert cron["last_key"] == done["key"] == "cron:forget_old:last"
    assert [run["key"] for run in cron["history"]] == [done["key"]]
    queue = (await operator.get("api/queues")).json()["queues"][0]
    assert queue["totals"] == {"complete": 3, "failed": 0, "aborted": 0}


async def test_a_running_fee_sweep_shows_how_far_it_has_come(
    app: Litestar,
    client: httpx.AsyncClient,
    viewer: Dashboard,
    worker: Worker[Context],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fees, "FEE_CHUNK", 1)
    monkeypatch.setattr(sweep, "TELL_SECONDS", 0.01)
    for _ in range(4):
        await make_due(await (await register(client)).open_wallet(holding="1000"))
    day, charged, go_on = FeeDay(app), asyncio.Semaphore(3), asyncio.Event()

    class Paused:
        """The bank, which after three fees lets the others wait."""

        async def perform(self, order: ChargeFee) -> Receipt:
            if charged.locked():
                await go_on.wait()
            await charged.acquire()
            return await day.bank.perform(order)

    async with Redis.from_url(settings.redis_url) as redis:
        nothing = cast(Any, None)
        worker.context["tools"] = Tools(  # type: ignore[typeddict-unknown-key]
            redis=redis,
            bank=cast(Any, Paused()),
            board=day.board,
            delivery=nothing,
            rates=nothing,
            media_folder=nothing,
            development=True,
        )
        await worker.queue.enqueue("charge_fees", key="cron:charge_fees", timeout=0)
        running = asyncio.create_task(worker.process())
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not seen or seen[0]["progress"] < 0.75:
                seen = await viewer.jobs("active")
        assert seen[0]["status"] == "active"
        assert seen[0]["progress"] == 0.75
        assert seen[0]["meta"] == {"walked": 3, "due": 4, "charged": 3, "blocked": 0, "skipped": 0, "unchanged": 0}
        for _ in range(4):
            charged.release()
        go_on.set()
        await running
    (done,) = await viewer.jobs("complete")
    assert (done["progress"], done["result"]["charged"]) == (1.0, 4)


async def test_an_aborted_sweep_whose_worker_was_killed_does_not_keep_the_next_from_running(
    operator: Dashboard, queue: RedisQueue
) -> None:
    await queue.enqueue("charge_fees", key="cron:charge_fees", timeout=0, heartbeat=10)
    job = await queue.dequeue(timeout=5)
    assert job
    await job.update(status=Status.ACTIVE, started=1)
    path = f"api/queues/{QUEUE_NAME}/jobs/cron:charge_fees/abort"
    assert (await operator.post(path)).status_code == 200
    assert await operator.jobs("active") == []
    await queue.redis.delete(job.abort_id)  # after five seconds it is gone by itself
    assert await queue.enqueue("charge_fees", key="cron:charge_fees")


async def test_a_job_that_waits_is_aborted_and_shown_so(operator: Dashboard, queue: RedisQueue) -> None:
    await queue.enqueue("forget_old", key="mine")
    assert (await operator.post(f"api/queues/{QUEUE_NAME}/jobs/mine/abort")).status_code == 200
    assert await operator.jobs("queued") == []
    assert [job["key"] for job in await operator.jobs("aborted")] == ["mine"]
    assert (await operator.post(f"api/queues/{QUEUE_NAME}/jobs/mine/abort")).status_code == 400


async def test_failures_are_bounded_in_number_and_size(operator: Dashboard, queue: RedisQueue) -> None:
    for number in range(KEPT_MAX + 5):
        job = Job("forget_old", key=f"j{number}", queue=queue, ttl=-1)
        await queue.finish(job, Status.FAILED, error="x" * 50_000)
    answer = await operator.get(f"api/queues/{QUEUE_NAME}/jobs", status="failed")
    assert answer.json()["total"] == KEPT_MAX
    assert answer.json()["jobs"][0]["key"] == f"j{KEPT_MAX + 4}"
    assert len(answer.json()["jobs"][0]["error"]) == 20_000
    assert await queue.redis.keys("saq:wallet:board:snap:j0") == []


async def test_no_job_carries_anything_that_is_secret(client: httpx.AsyncClient, queue: RedisQueue) -> None:
    body = {"email": "ann@example.com", "phone_number": "+77011234567", "password": "a good password"}
    assert (await client.post("/users/create/", json=body)).status_code == 201
    hastened = await queue.dequeue(timeout=5)
    assert hastened
    assert (hastened.function, hastened.kwargs) == ("deliver", None)
    assert set(hastened.meta) <= {"request_id"}
    assert [cron.kwargs for cron in CRON_JOBS] == [None] * len(CRON_JOBS)
