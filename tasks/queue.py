"""The queue that the application and its workers share."""

import asyncio
import logging
from asyncio import timeout
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from saq import Job, Status
from saq.queue.redis import RedisQueue
from saq_board.store import Store

from actors.engine.redis_client import open_redis
from actors.engine.trouble import Trouble
from tasks import lost_jobs
from tasks.clock_jumps import doubt_sweep
from tasks.job_history import keep

_log = logging.getLogger(__name__)

QUEUE_NAME = "wallet"

# A worker waits this long for a job before it asks again. A connection that is silent for longer than that plus some
# seconds is dead, whatever the network says.
DEQUEUE_SECONDS = 5.0
SILENCE_SECONDS = 10.0
CONNECT_SECONDS = 2.0
GOODBYE_SECONDS = 1.0


class PatientQueue(RedisQueue):
    """SAQ's queue, which keeps how jobs ended, bears clocks that jump, and can be asked and closed without Redis."""

    def __init__(self, redis: Redis, name: str) -> None:
        super().__init__(redis, name=name)
        self._history = Store(self)
        self._trouble = Trouble(_log, "Fetching jobs")

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> Job | None:  # noqa: ASYNC109 as in SAQ
        """The next job. SAQ asks again at once, and says nothing; so what fails pauses here."""
        try:
            job = await super().dequeue(timeout, poll_interval)
        except Exception as error:
            await asyncio.sleep(self._trouble.met(error))
            raise
        self._trouble.over()
        return job

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:
        """Find jobs whose workers have died, also where clocks were set back since, and none that is being fetched."""
        await doubt_sweep(self, lock)
        return await lost_jobs.sweep(self, lock, abort)

    async def finish(
        self, job: Job, status: Status, *, result: Any = None, error: str | None = None, **kwargs: Any
    ) -> None:
        """Finish it. The job is over even where that can't be kept."""
        await super().finish(job, status, result=result, error=error, **kwargs)
        with suppress(RedisError, OSError):
            await keep(self._history, job)

    async def disconnect(self) -> None:
        """Close it. SAQ says goodbye to Redis first, which fails, or takes long, where there is none to hear it."""
        with suppress(RedisError, OSError):
            async with timeout(GOODBYE_SECONDS):
                await super().disconnect()
        await self.redis.aclose()


def open_queue(redis_url: str) -> RedisQueue:
    """
    The queue, with a Redis client of its own; nothing is connected yet. Close it with `disconnect()`.

    One retry after a moment: enough for a connection that Redis has closed, and the waiting worker does not spin
    while Redis is away.
    """
    redis = open_redis(
        redis_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=SILENCE_SECONDS,
        retry=Retry(ConstantBackoff(0.5), 1),
    )
    return PatientQueue(redis, name=QUEUE_NAME)
