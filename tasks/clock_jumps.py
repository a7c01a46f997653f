"""
What SAQ would take for true after a clock was set back: expiries and due times that lie ahead as far as the clock went.

SAQ locks its schedule for a second by a key that expires, keeps by a key that a job is being aborted, and notes the
moment of each cron job's next run. Redis's clock or a worker's, set back by an hour, would stop all jobs for an hour;
one that was ahead for a moment would do so for as long as it was ahead.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from croniter import croniter
from saq import CronJob, Job, Status
from saq.queue.redis import RedisQueue
from saq.utils import now

# As long as SAQ keeps it.
_ABORTED_SECONDS = 5
# The clocks of two workers may differ by so much, in which nothing is doubted.
_WORKERS_DIFFER_SECONDS = 60
_ROUNDING_SECONDS = 1

_DOUBT = """
local function doubt(key, longest)
    local left = redis.call('PTTL', key)
    if left == -1 or left > tonumber(longest) then redis.call('DEL', key) end
end
doubt(KEYS[1], ARGV[1])
"""
# KEYS: the schedule's lock, the jobs that are not finished, then two for each cron job: itself, and that it is aborted.
# ARGV: how many milliseconds the first and the last may live; for each cron job the latest moment of its next run.
_DOUBT_SCHEDULE = f"""{_DOUBT}
for i = 3, #KEYS, 2 do
    doubt(KEYS[i + 1], ARGV[2])
    local at = redis.call('ZSCORE', KEYS[2], KEYS[i])
    if at and tonumber(at) > tonumber(ARGV[(i + 3) / 2]) then redis.call('ZREM', KEYS[2], KEYS[i]) end
end
"""


async def doubt_schedule(queue: RedisQueue, cron_jobs: Iterable[CronJob[Any]], lock_seconds: int) -> None:
    """
    Forget a lock of the schedule that outlasts `lock_seconds`, and runs that are further away than their period.

    What is forgotten is scheduled anew by SAQ. Raises what Redis raises.
    """
    at = datetime.now(UTC)
    keys, latest = [queue.namespace("schedule"), queue.namespace("incomplete")], []
    for each in cron_jobs:
        job = Job(each.function.__qualname__, key=f"cron:{each.function.__qualname__}", queue=queue)
        keys += [job.id, job.abort_id]
        latest.append(at.timestamp() + _period_seconds(each.cron, at) + _ROUNDING_SECONDS)
    await queue.redis.eval(  # type: ignore[misc]  # redis-py is unsure
        _DOUBT_SCHEDULE, len(keys), *keys, str(lock_seconds * 1000), str(_ABORTED_SECONDS * 1000), *map(str, latest)
    )


async def doubt_sweep(queue: RedisQueue, lock_seconds: int) -> None:
    """
    Likewise for the sweep, and for running jobs that were last heard of in the future.

    SAQ asks for how long a job has been silent, and would wait for a dead worker's until its clock has come that far.
    """
    await queue.redis.eval(_DOUBT, 1, queue.namespace("sweep"), str(lock_seconds * 1000))  # type: ignore[misc]
    for job_id in await queue.redis.lrange(queue.namespace("active"), 0, -1):  # type: ignore[misc]
        job = await queue.job(queue.job_key_from_id(job_id.decode()))
        if job and job.status == Status.ACTIVE and heard_of_in_the_future(job):
            job.started = job.touched = 1  # a job that lives says so again within seconds
            await queue.redis.set(job.id, queue.serialize(job), xx=True)


def heard_of_in_the_future(job: Job) -> bool:
    """Whether a clock must have been set back since the job last said that it lives."""
    return max(job.started, job.touched) > now() + _WORKERS_DIFFER_SECONDS * 1000


def _period_seconds(cron: str, at: datetime) -> float:
    runs = croniter(cron, at)
    first: float = runs.get_next()
    return float(runs.get_next() - first)
