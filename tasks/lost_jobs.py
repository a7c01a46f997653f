"""
Jobs whose workers have died: found by looking twice, and given to others.

SAQ moves a job to its list of active ones before the worker has said that it begins. Its own sweep looks once, so it
also ends a job that was being fetched at that moment; and one that was over and gone before the sweep could ask again
ends the sweep, with the rest of the list not looked at.
"""

import asyncio
import logging

from saq import Job, Status
from saq.queue.redis import RedisQueue

# From being fetched to being begun a job takes some milliseconds, and longer only where Redis or the machine is slow.
FETCHING_SECONDS = 3.0

_log = logging.getLogger(__name__)


async def sweep(queue: RedisQueue, lock_seconds: int, abort_seconds: float) -> list[str]:
    """
    Let others have the jobs of dead workers, as SAQ's sweep does; the ids of these.

    Nobody else sweeps within `lock_seconds`. A worker that lives after all is given `abort_seconds` to end the job.
    Raises what Redis raises.
    """
    if not await queue.redis.set(queue.namespace("sweep"), 1, ex=lock_seconds, nx=True):
        return []
    before = await _doubtful(queue)
    if not before:
        return []
    await asyncio.sleep(FETCHING_SECONDS)
    swept = []
    for job_id, kept in (await _doubtful(queue)).items():
        job = queue.deserialize(kept)
        # One that is stuck may have said so once more. Any other is lost if nothing has become of it in the meantime.
        if job_id in before and (kept == before[job_id] or (job and job.stuck)):
            if job is None:
                await _forget(queue, job_id)
            elif not await _take(queue, job, abort_seconds):
                continue
            swept.append(job_id)
    return swept


async def _doubtful(queue: RedisQueue) -> dict[str, bytes | None]:
    """What is kept of each job that somebody has fetched, and that is not seen to run."""
    active = await queue.redis.lrange(queue.namespace("active"), 0, -1)  # type: ignore[misc]  # redis-py is unsure
    if not active:
        return {}
    found = {}
    for job_id, kept in zip(active, await queue.redis.mget(active), strict=True):
        job = queue.deserialize(kept)
        if job is None or job.status != Status.ACTIVE or job.stuck:
            found[job_id.decode()] = kept
    return found


async def _forget(queue: RedisQueue, job_id: str) -> None:
    """Take from the lists a job of which nothing is kept."""
    _log.info("Nothing is kept of job %s.", job_id)
    async with queue.redis.pipeline(transaction=True) as pipe:
        pipe.lrem(queue.namespace("active"), 0, job_id)
        pipe.zrem(queue.namespace("incomplete"), job_id)
        await pipe.execute()


async def _take(queue: RedisQueue, job: Job, abort_seconds: float) -> bool:
    """End the job where it is, and queue it again if it may have another attempt; False if it has just ended well."""
    await queue.abort(job, error=queue.swept_error_message)
    try:
        await job.refresh(abort_seconds)
    except TimeoutError:
        _log.info("Nobody has ended job %s, so its worker is dead.", job.id)
    except RuntimeError:  # SAQ's for a job of which nothing is kept any more
        return False
    if job.status == Status.COMPLETE:
        return False
    if job.retryable:
        await queue.retry(job, error=queue.swept_error_message)
    else:
        await queue.finish(job, Status.ABORTED, error=queue.swept_error_message)
    return True
