"""
What the worker does and when.

Nothing depends on a job: each of them looks in the database for what there is to do, is safe to run twice, and is asked
again by the clock. SAQ lets a cron job with the same name be queued only once at a time, however many workers schedule
it (its key is taken in one script), so two workers share the work; with clocks a second apart a job may run
twice in a row, which changes nothing.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import CronJob
from saq.types import Context

from actors.bank import Bank
from actors.engine.background import in_background
from db.dates import learn_dates
from tasks.fees import charge_due_fees
from tasks.messages.delivery import Delivery
from tasks.rates.api import RatesSource
from tasks.rates.board import RateBoard
from tasks.rates.fetching import RatesFetched, fetch_rates
from tasks.rates.store import ASK_AGAIN_AFTER, cached
from tasks.sweep import told
from tasks.upkeep import audit_and_keep, clean_up

# A job that has not said for so long that it is alive is dead, and SAQ's sweep may start it again.
JOB_SILENCE_SECONDS = 10
TOUCH_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the jobs work with: opened when the worker starts, closed when it ends."""

    redis: Redis
    bank: Bank
    board: RateBoard
    delivery: Delivery
    rates: RatesSource
    media_folder: Path
    development: bool


def tools_of(ctx: Context) -> Tools:
    """The worker's tools, out of SAQ's context."""
    tools: Tools = ctx["tools"]  # type: ignore[typeddict-item]  # SAQ allows extra fields, its type does not name ours
    return tools


async def deliver(ctx: Context) -> dict[str, Any]:
    """Send the emails that are due."""
    async with _alive(ctx):
        return _plain(await tools_of(ctx).delivery.run(ctx["worker"].event, channels=["email"]))


async def deliver_sms(ctx: Context) -> dict[str, Any]:
    """Send the SMS that are due. A job of its own: it does not wait for a mail server that is silent."""
    async with _alive(ctx):
        return _plain(await tools_of(ctx).delivery.run(ctx["worker"].event, channels=["sms"]))


class NoFreshRates(Exception):
    """The rate source has not confirmed the rates for too long. The sentence says why, and never holds the API key."""


async def refresh_rates(ctx: Context) -> dict[str, Any] | None:
    """
    Fetch exchange rates, unless that was done within the hour.

    Raises:
        NoFreshRates: this failed, and has failed for longer than a period of the job. So it is a failed job for the
            dashboard, and not a completed one with a sad result. In development the snapshot serves, and it is none.
    """
    tools, job = tools_of(ctx), ctx["job"]
    fetched = await refresh_rates_if_old(tools)
    if fetched is None or fetched.succeeded or fetched.snapshot_in_use:
        return _plain(fetched) if fetched else None
    known = None
    with suppress(RedisError, OSError):
        known = await cached(tools.redis)
    if known and not known.is_overdue(datetime.now(UTC)):
        return _plain(fetched)
    job.retries = job.attempts  # asking again at once helps nobody; the next run will ask
    last = f"last confirmed at {known.asked_at:%Y-%m-%d %H:%M} UTC" if known else "none are known"
    raise NoFreshRates(f"{fetched.reason} The rates in use: {last}.")


async def refresh_rates_if_old(tools: Tools) -> RatesFetched | None:
    """The same for a worker that has just started and has no job for it yet; None where it was done within the hour."""
    with suppress(RedisError, OSError):
        known = await cached(tools.redis)
        if known and not known.is_snapshot and known.asked_within(ASK_AGAIN_AFTER):
            return None
    return await fetch_rates(tools.redis, tools.rates, development=tools.development)


async def charge_fees(ctx: Context) -> dict[str, Any]:
    """Charge the fees that are due."""
    tools = tools_of(ctx)
    async with _alive(ctx), told(tools.redis, ctx["job"]) as progress:
        charged = await charge_due_fees(tools.bank, tools.board.current(), stop=ctx["worker"].event, progress=progress)
    if charged.due:
        _log.info("Fees: %s", _plain(charged))
    return _plain(charged)


async def prove_ledger(ctx: Context) -> dict[str, Any]:
    """Audit the ledger."""
    async with _alive(ctx):
        return _plain(await audit_and_keep())


async def forget_old(ctx: Context) -> dict[str, Any]:
    """Delete what nobody needs any more."""
    async with _alive(ctx):
        return _plain(await clean_up(tools_of(ctx).media_folder))


async def look_at_dates(ctx: Context) -> dict[str, Any]:
    """Look in what order the entries of wallets are dated that nobody has looked at."""
    async with _alive(ctx):
        return {"wallets": await learn_dates()}


# Times are UTC; a sixth field is seconds. Each timeout and each number of attempts is said: SAQ's own are 10 seconds
# and one attempt. Long jobs have no timeout but a heartbeat.
CRON_JOBS: list[CronJob[Context]] = [
    CronJob(deliver, cron="* * * * * */2", timeout=120, heartbeat=JOB_SILENCE_SECONDS, retries=3, ttl=60),
    CronJob(deliver_sms, cron="* * * * * */2", timeout=120, heartbeat=JOB_SILENCE_SECONDS, retries=3, ttl=60),
    CronJob(refresh_rates, cron="*/5 * * * *", timeout=60, retries=3),
    CronJob(charge_fees, cron="*/5 * * * *", timeout=0, heartbeat=JOB_SILENCE_SECONDS, retries=3),
    CronJob(look_at_dates, cron="25 * * * *", timeout=0, heartbeat=JOB_SILENCE_SECONDS, retries=3),
    CronJob(prove_ledger, cron="10 2 * * *", timeout=0, heartbeat=JOB_SILENCE_SECONDS, retries=3, ttl=86_400),
    CronJob(forget_old, cron="40 2 * * *", timeout=0, heartbeat=JOB_SILENCE_SECONDS, retries=3, ttl=86_400),
]


def _plain(summary: Any) -> dict[str, Any]:
    """A summary as SAQ can store it and its dashboard show it."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(summary))
    return plain


def _alive(ctx: Context) -> AbstractAsyncContextManager[None]:
    """Tell SAQ, as long as the block runs, that the job is alive: what a killed worker held is free the sooner."""
    job = ctx["job"]

    async def touch() -> None:
        await asyncio.sleep(TOUCH_SECONDS)
        with suppress(RedisError, OSError):
            await job.update()

    return in_background(touch)
