"""The worker process: opens what jobs need, lets SAQ run them, and closes everything in order."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context as Variables
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Job, Worker
from saq.queue.redis import RedisQueue
from saq.types import Context, PartialTimersDict

from actors.engine.background import end, in_background
from actors.engine.outages import of_either, of_postgres
from actors.engine.redis_client import open_redis, redis_fault
from actors.engine.trouble import Trouble
from db.engine import UNAVAILABLE, connection_pool
from db.suitability import check_postgres
from tasks import clock
from tasks.banking import Banking
from tasks.clock_jumps import doubt_schedule
from tasks.fees import charge_due_fees
from tasks.heartbeat import BEAT_SECONDS, beat
from tasks.job_log import OUTAGE, JobsByName, is_outage, job_begins, job_ended
from tasks.jobs import CRON_JOBS, Tools, refresh_rates_if_old
from tasks.messages.caught import development_smtp
from tasks.messages.delivery import Delivery
from tasks.messages.outbox import hasten_delivery
from tasks.metrics import worker_metrics
from tasks.queue import CONNECT_SECONDS, DEQUEUE_SECONDS, open_queue
from tasks.rates.fetching import publish_snapshot
from tasks.redis_check import check_redis
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
        await check_redis(settings.redis_url)
        tools = await stack.enter_async_context(_tools(settings))
        queue = open_queue(settings.redis_url)
        stack.push_async_callback(queue.disconnect)
        await _prepare(queue)
        if settings.development:
            await _publish_first_rates(tools)
        await stack.enter_async_context(in_background(partial(_beat, tools.redis), clock.watch))
        first_work = asyncio.create_task(_first_work(tools, queue, sms=bool(settings.sms.url)), context=Variables())
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
    """SAQ's worker, which bears outages and clocks that jump, and when told to stop waits for its jobs alone."""

    def __init__(self, queue: RedisQueue, **options: Any) -> None:
        super().__init__(queue, **options)
        self._queue = queue
        self._trouble = Trouble(_log, "A job's beginning or end")

    async def schedule(self, lock: int = 1) -> None:
        """Schedule the cron jobs, none of them further away than its own period."""
        await doubt_schedule(self._queue, self.cron_jobs, lock)
        await super().schedule(lock)

    async def process(self) -> bool:
        """Run one job. SAQ lets what goes wrong with Redis before and after it go through, and asks again at once."""
        try:
            done = await super().process()
        except Exception as error:  # noqa: BLE001 the job is found again by SAQ's sweep
            await asyncio.sleep(self._trouble.met(error))
            return True
        self._trouble.over()
        return done

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
        redis = open_redis(settings.redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)
        stack.push_async_callback(redis.aclose)
        await _enter_when_possible(stack, settings)
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
            delivery=Delivery(settings.secret, smtp, settings.sms, other_secrets=settings.other_secrets),
            rates=settings.rates,
            media_folder=Path(settings.media_folder),
            development=settings.development,
        )


async def _enter_when_possible(stack: AsyncExitStack, settings: WorkerSettings) -> None:
    while True:
        try:
            await check_postgres(settings.database_url, settings.pool.connect_timeout_seconds)
            await stack.enter_async_context(connection_pool(settings.pool, reserved=settings.bank.connections))
        except UNAVAILABLE as error:
            _log.warning("The worker waits: %s.", of_postgres(error))
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


async def _prepare(queue: RedisQueue) -> None:
    """Make SAQ forget the run that an older cron expression scheduled; the present one is scheduled within a second."""
    try:
        incomplete = queue.namespace("incomplete")
        scheduled = [
            job_id
            for job_id in await queue.redis.zrangebyscore(incomplete, 1, "+inf")
            if job_id.startswith(queue.job_id("cron:").encode())
        ]
        if scheduled:
            await queue.redis.zrem(incomplete, *scheduled)
    except (RedisError, OSError) as error:
        _log.warning("The worker starts without Redis: it %s.", redis_fault(error))


async def _publish_first_rates(tools: Tools) -> None:
    try:
        await publish_snapshot(tools.redis, tools.rates)
    except UNAVAILABLE as error:
        _log.warning("The bundled exchange rates could not be published: %s.", of_postgres(error))


async def _first_work(tools: Tools, queue: RedisQueue, *, sms: bool) -> None:
    """What should not wait for the clock after a start."""
    await hasten_delivery(queue, sms=sms)
    try:
        charged = await charge_due_fees(tools.bank, tools.board.current())
    except OUTAGE as error:
        _log.warning("Fees could not be charged: %s.", of_either(error))
    else:
        if charged.due:
            _log.info("Fees: %s", asdict(charged))
    try:
        await refresh_rates_if_old(tools)
    except OUTAGE as error:
        _log.warning("Exchange rates could not be refreshed: %s.", of_either(error))
    await tools.delivery.look_at_mail_server()


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
    """
    Lets through what has not been said for half a minute: SAQ says the same thing every second, with a traceback.

    An outage is one line, whoever met it; any other error of a job or a loop keeps its traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._met_at: dict[tuple[object, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        outage = of_either(error) if is_outage(error) else None
        jobs = [each.function for each in record.args or () if isinstance(each, Job)]
        what = (outage,) if outage else (type(error), record.msg, *jobs)
        met_at, self._met_at[what] = self._met_at.get(what), time.monotonic()
        if met_at is not None and time.monotonic() - met_at < QUIET_SECONDS:
            return False
        if not outage:
            return True
        record.msg, record.args = "The worker is held up: %s; it goes on trying.", (outage,)
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.exc_info = record.exc_text = None
        return True
