"""
What became of jobs, kept where the worker dashboard looks for it.

SAQ gives every run of a cron job the same key and overwrites the last one, failed or not, as soon as it schedules the
next: within a second. Here each run is kept under a key of its own, in the words of saq-board, which shows them and can
queue one again. Nothing but the dashboard reads this.
"""

from dataclasses import replace
from typing import Any

from saq import Job, Status
from saq_board.store import FINISHED, Store

from tasks.job_log import did_something
from tasks.messages.outbox import DELIVERIES

# Of each outcome; the oldest are forgotten first.
KEPT_MAX = 1_000
ERROR_MAX_CHARACTERS = 20_000
SECONDS_OF_A_RETRY = 600

CRON_KEY_PREFIX = "cron:"


async def keep(store: Store, job: Job) -> None:
    """
    Note how `job` has just ended. Of scheduled runs that found nothing to do, and of those that delivered messages,
    which `message` tells better, only the last is kept, or they would push everything else out.

    Raises what Redis raises.
    """
    if job.status not in FINISHED or (job.ttl < 0 and job.status == Status.COMPLETE):
        return
    if job.key != CRON_KEY_PREFIX + job.function:
        await store.record(_trimmed(job), KEPT_MAX)
        return
    began_at = job.started or job.queued
    routine = job.status == Status.COMPLETE and (job.function in DELIVERIES.values() or not did_something(job.result))
    key = f"{job.key}:{'last' if routine else began_at}"
    await store.record(_trimmed(job, key=key, meta={**job.meta, "cron": job.function}), KEPT_MAX)
    last = {"last_enqueued": began_at, "last_key": key}
    if routine:
        await store.redis.hset(store.cron_key(job.function), mapping=last)  # type: ignore[misc]  # redis-py is unsure
    else:
        run = {"at": began_at, "run_at": job.scheduled * 1000, "key": key, "manual": False}
        await store.cron_log(job.function, run, **last)


def _trimmed(job: Job, **changes: Any) -> Job:
    """A copy to keep; one that is queued again from it must leave a result for a while, as it is not kept for ever."""
    error = job.error and job.error[-ERROR_MAX_CHARACTERS:]
    return replace(job, error=error, ttl=job.ttl if job.ttl > 0 else SECONDS_OF_A_RETRY, **changes)
