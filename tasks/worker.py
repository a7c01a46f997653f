"""The worker process: opens what jobs need, lets SAQ run them, and closes everything in order."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context as Variables
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Worker
from saq.queue.redis import RedisQueue
from saq.types import Context, PartialTimersDict

from actors.engine.background import end, in_background
from db.engine import UNAVAILABLE, Pool, connection_pool
from tasks import clock
from tasks.banking import Banking
from tasks.heartbeat import BEAT_SECONDS, beat
from tasks.job_log import JobsByName, job_begins, job_ended
from tasks.jobs import CRON_JOBS, Tools, refresh_rates_if_old
from tasks.messages.caught import development_smtp
from tasks.messages.delivery import Delivery
from tasks.messages.outbox import hasten_delivery
from tasks.metrics import worker_metrics
from tasks.queue import CONNECT_SECONDS, DEQUEUE_SECONDS, open_queue
from tasks.rates.fetching import publish_snapshot
from tasks.settings import WorkerSettings

CONCURRENCY = 6
SWEEP_SECONDS = 10
DRAIN_SECONDS = 30.0
CANCEL_SECONDS = 3.0
RETRY_SECONDS = 2.0
QUIET_SECONDS = 30.0

_log = logging.getLogger(__name__)


async def run_worker(settings: WorkerSettings) -> None:
    """
    Work until SIGTERM or SIGINT, then finish the jobs under way, for `DRAIN_SECONDS` at most.

    Neither PostgreSQL nor Redis has to be there: the worker waits for the first, and SAQ asks again for the second
    as long as it is away. What is due meanwhile is in the database and found later.
    """
    _calm_loggers()
    async with AsyncExitStack() as stack:
        stack.enter_context(worker_metrics(settings.metrics))
        tools = await stack.enter_async_context(_tools(settings))
        queue = open_queue(settings.redis_url)
        stack.push_async_callback(queue.disconnect)
        await _prepare(queue)
        if settings.development:
            await _publish_first_rates(tools)
        await stack.enter_async_context(in_background(partial(_beat, tools.redis), clock.watch))
        first_work = asyncio.create_task(_first_work(tools, queue), context=Variables())
        stack.push_async_callback(end, [first_work])
        worker = DrainingWorker(
            queue,
            functions=[],  # SAQ adds those of the cron list
            cron_jobs=CRON_JOBS,
            concurrency=CONCURRENCY,
            timers=PartialTimersDict(schedule=1, worker_info=10, sweep=SWEEP_SECONDS, abort=1),
            dequeue_timeout=DEQUEUE_SECONDS,
            before_process=job_begins,
            after_process=job_ended,
        )
        worker.context["tools"] = tools  # type: ignore[typeddict-unknown-key]  # SAQ allows extra fields
        _log.info("The worker is ready.")
        await worker.start()


class DrainingWorker(Worker[Context]):
    """SAQ's worker, which when told to stop waits for its jobs, and for nothing else."""

    async def stop(self) -> None:
        """Let the jobs under way finish, then end. SAQ's own grace period also waits for idle loops to wake up."""
        self.event.set()
        ends_at = time.monotonic() + DRAIN_SECONDS
        while self.job_task_contexts and time.monotonic() < ends_at:  # noqa: ASYNC110 SAQ has no event for it
            await asyncio.sleep(0.05)
        # More than once: redis-py swallows a cancellation that meets it while it connects.
        idle, ends_at = set(self.tasks), time.monotonic() + CANCEL_SECONDS
        while idle and time.monotonic() < ends_at:
            for task in idle:
                task.cancel()
            _, idle = await asyncio.wait(idle, timeout=0.2)
        self.tasks.clear()
        await super().stop()


@asynccontextmanager
async def _tools(settings: WorkerSettings) -> AsyncIterator[Tools]:
    """Everything the jobs work with, opened in order and closed in reverse."""
    async with AsyncExitStack() as stack:
        redis: Redis = Redis.from_url(
            settings.redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
        )
        stack.push_async_callback(redis.aclose)
        await _enter_when_possible(stack, settings.pool)
        banking = Banking(settings, redis)
        await stack.enter_async_context(banking.running())
        smtp = settings.smtp
        if settings.development:
            # Always, whatever server is configured: no mail to real people from somebody's own machine.
            port = await stack.enter_async_context(development_smtp(redis))
            smtp = replace(smtp, host="127.0.0.1", port=port, username="", password="", tls="none")
        yield Tools(
            redis=redis,
            bank=banking.bank,
            board=banking.board,
            delivery=Delivery(settings.secret, smtp, settings.sms),
            rates=settings.rates,
            media_folder=Path(settings.media_folder),
            development=settings.development,
        )


async def _enter_when_possible(stack: AsyncExitStack, pool: Pool) -> None:
    while True:
        try:
            await stack.enter_async_context(connection_pool(pool))
        except UNAVAILABLE as error:
            _log.warning("The worker waits for PostgreSQL (%s).", type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def _prepare(queue: RedisQueue) -> None:
    """
    Make SAQ forget scheduled runs, and not sweep at once.

    It would keep the run that an older cron expression scheduled; the present one is scheduled again within a second.
    And its sweep takes a job that is just being fetched, as the first ones are now, for a lost one.
    """
    try:
        await queue.redis.set(queue.namespace("sweep"), 1, ex=SWEEP_SECONDS, nx=True)
        incomplete = queue.namespace("incomplete")
        scheduled = [
            job_id
            for job_id in await queue.redis.zrangebyscore(incomplete, 1, "+inf")
            if job_id.startswith(queue.job_id("cron:").encode())
        ]
        if scheduled:
            await queue.redis.zrem(incomplete, *scheduled)
    except (RedisError, OSError) as error:
        _log.warning("The worker starts without Redis (%s).", type(error).__name__)


async def _publish_first_rates(tools: Tools) -> None:
    try:
        await publish_snapshot(tools.redis, tools.rates)
    except UNAVAILABLE as error:
        _log.warning("The bundled exchange rates could not be published (%s).", type(error).__name__)


async def _first_work(tools: Tools, queue: RedisQueue) -> None:
    """What should not wait for the clock after a start."""
    await hasten_delivery(queue)
    try:
        await refresh_rates_if_old(tools)
    except UNAVAILABLE as error:
        _log.warning("Exchange rates could not be refreshed (%s).", type(error).__name__)


async def _beat(redis: Redis) -> None:
    try:
        await beat(redis)
    except (RedisError, OSError):
        await asyncio.sleep(RETRY_SECONDS)
    else:
        await asyncio.sleep(BEAT_SECONDS)


def _calm_loggers() -> None:
    """A job every two seconds is no news, and an outage is worth a line, not a traceback from everyone who meets it."""
    logging.getLogger("saq").setLevel(logging.WARNING)
    for name, kinds in (("saq", (_OutagesOnce, JobsByName)), ("asyncpg.pool", (_OutagesOnce,))):
        logger = logging.getLogger(name)
        for kind in kinds:
            if not any(isinstance(each, kind) for each in logger.filters):
                logger.addFilter(kind())


class _OutagesOnce(logging.Filter):
    """Lets through one line about an outage every half minute."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, (RedisError, *UNAVAILABLE)):
            return True
        name = type(error).__name__
        if time.monotonic() - self._told_at.get(name, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._told_at[name] = time.monotonic()
        record.msg, record.args = "The worker can't reach Redis or PostgreSQL (%s); it goes on trying.", (name,)
        record.exc_info = record.exc_text = None
        return True
