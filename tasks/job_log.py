"""The worker's log: which job and which request a line is about, and a line for each job that did something."""

import logging
from time import perf_counter
from typing import Any

from redis.exceptions import RedisError
from saq import Job
from saq.job import Status
from saq.types import Context
from structlog.contextvars import bind_contextvars, get_contextvars

from actors.refusals import DatabaseUnavailable
from db.engine import UNAVAILABLE
from db.transaction import CommitInDoubt

# What a job raises for want of Redis or PostgreSQL, by itself or through the bank.
OUTAGE = (RedisError, DatabaseUnavailable, CommitInDoubt, *UNAVAILABLE)

REQUEST_ID = "request_id"

_BEGAN = "job_log_began"
# Jobs that have ended badly, and how, and not well since: a job that fails every two seconds is said to do so once.
_failing: set[tuple[str, Status]] = set()
_log = logging.getLogger(__name__)


def bound_request_id() -> str | None:
    """The id of the request, or of the job's request, in whose course this is asked; None beside any."""
    id = get_contextvars().get(REQUEST_ID)
    return id if isinstance(id, str) else None


def meta_of_request() -> dict[str, str]:
    """What a job that is queued now should have as its `meta`, so that its lines carry the request's id too."""
    id = bound_request_id()
    return {REQUEST_ID: id} if id else {}


async def job_begins(ctx: Context) -> None:
    """SAQ's `before_process`: it runs in a task of this one job, whose context the job inherits."""
    job = ctx["job"]
    bind_contextvars(job=job.function, job_id=job.key)
    if isinstance(id := job.meta.get(REQUEST_ID), str):
        bind_contextvars(request_id=id)
    ctx[_BEGAN] = perf_counter()  # type: ignore[literal-required]  # SAQ allows extra fields


async def job_ended(ctx: Context) -> None:
    """
    SAQ's `after_process`: one line; at debug where the job found nothing to do, had nobody to ask (`is_outage`), or
    fails as it has failed before.
    """
    job, began = ctx["job"], ctx.get(_BEGAN)
    if not isinstance(began, float):
        return
    fields = {
        "status": str(job.status.value),
        "ms": round((perf_counter() - began) * 1000, 1),
        "attempts": job.attempts,
    }
    if is_outage(ctx.get("exception")):
        _log.debug("job", extra=fields)
        return
    if job.status != Status.COMPLETE:
        said = (job.function, job.status) in _failing
        _failing.add((job.function, job.status))
        _log.log(logging.DEBUG if said else logging.WARNING, "job", extra=fields)
        return
    _failing.difference_update([each for each in _failing if each[0] == job.function])
    if did_something(job.result):
        _log.info("job", extra=fields)
    else:
        _log.debug("job", extra=fields)


def is_outage(error: object) -> bool:
    """Whether a job failed for want of Redis or PostgreSQL, which all of them do then: once is enough to say so."""
    return isinstance(error, OUTAGE)


def did_something(result: Any) -> bool:
    """Whether a job's summary counts anything."""
    return any(result.values()) if isinstance(result, dict) else bool(result)


class JobsByName(logging.Filter):
    """SAQ shows a job with all its fields, among them the text of its last error: its name and its key are enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(f"{arg.function} ({arg.key})" if isinstance(arg, Job) else arg for arg in record.args)
        return True
