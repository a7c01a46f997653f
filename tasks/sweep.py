"""How far a fee sweep has come: on its job for the dashboard, and in Redis for whoever measures."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from msgspec import Struct
from msgspec.structs import asdict
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Job

from actors.engine.background import in_background
from tasks.fees import FeesCharged

SWEEP_KEY = "wallet:fees:sweep"
TELL_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Sweep(Struct, kw_only=True):
    """A sweep's state. Numbers as in `FeesCharged`; `finished_at` stays null where it was cut short."""

    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    due: int = 0
    walked: int = 0
    charged: int = 0
    blocked: int = 0
    skipped: int = 0
    unchanged: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(self.walked / self.due, 1.0) if self.due else 0.0


async def last_sweep(redis: Redis) -> Sweep | None:
    """The last sweep that found a fee due, still running or not. Raises what Redis raises."""
    found = await redis.get(SWEEP_KEY)
    return msgspec.json.decode(found, type=Sweep) if found else None


@asynccontextmanager
async def told(redis: Redis, job: Job) -> AsyncIterator[Callable[[FeesCharged, int], None]]:
    """
    What a sweep's `progress` should be as long as the block runs: it only notes the numbers, and once a second they are
    written. The sweep neither waits for Redis nor fails without it.
    """
    now = datetime.now(UTC)
    sweep = Sweep(started_at=now, updated_at=now)

    def note(run: FeesCharged, walked: int) -> None:
        for name, number in asdict(run).items():
            setattr(sweep, name, number)
        sweep.walked = walked
        job.progress = sweep.share
        job.meta = {"walked": walked, **asdict(run)}

    async def tell() -> None:
        await asyncio.sleep(TELL_SECONDS)
        await write(redis, sweep)
        try:
            await job.update()
        except (RedisError, OSError) as error:
            _log.debug("The sweep's progress could not be shown (%s).", type(error).__name__)

    async with in_background(tell):
        yield note
    sweep.finished_at = datetime.now(UTC)
    await write(redis, sweep)


async def write(redis: Redis, sweep: Sweep) -> None:
    """Keep a sweep's state for `last_sweep`, where it found a fee due and Redis takes it."""
    sweep.updated_at = datetime.now(UTC)
    if not sweep.due:
        return
    try:
        await redis.set(SWEEP_KEY, msgspec.json.encode(sweep))
    except (RedisError, OSError) as error:
        _log.debug("The sweep's state could not be kept (%s).", type(error).__name__)
