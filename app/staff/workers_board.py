"""saq-board over our queue: what it shows, and what staff may do there."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter
from redis.exceptions import RedisError
from saq import Job, Status
from saq.queue.redis import RedisQueue
from saq.utils import now
from saq_board.api import ApiError, Board
from saq_board.cron import definition
from saq_board.store import CRON_HISTORY, Store

from tasks.job_history import CRON_KEY_PREFIX, KEPT_MAX
from tasks.jobs import CRON_JOBS

if TYPE_CHECKING:
    from saq_board.api import Handler

BOARD_SECONDS = 5.0
OFFSET_MAX_DIGITS = 9

_CRON: dict[str, dict[str, Any]] = {
    each.function.__qualname__: {**definition(each, UTC), "description": each.function.__doc__ or ""}
    for each in CRON_JOBS
}


class Runs(Store):
    """
    What is queued, runs and ran.

    SAQ schedules our cron jobs, not the board: it would stop for good when Redis forgets its list of them, and does not
    start without Redis. So the next run is what SAQ has scheduled, and the jobs are those of the code.
    """

    async def crons(self) -> list[dict[str, Any]]:
        """Every cron job, with when it runs next and when it began to run last, in milliseconds since 1970."""
        ids = [self.queue.job_id(CRON_KEY_PREFIX + name) for name in _CRON]
        scheduled, states, workers = await asyncio.gather(
            self.redis.zmscore(self.queue.namespace("incomplete"), ids),
            self.cron_states(list(_CRON)),
            self.redis.zcount(self.queue.namespace("stats"), now(), "+inf"),
        )
        return [
            {
                **cron,
                "queue": self.queue.name,
                "enabled": True,
                # One that waits, runs or has just ended is not scheduled yet, but will be where there is a worker.
                "next_run": int((at or (_next(cron["cron"]) if workers else 0)) * 1000),
                "last_enqueued": int(state.get("last_enqueued", 0)),
                "last_key": state.get("last_key"),
            }
            for cron, at, state in zip(_CRON.values(), scheduled, states, strict=True)
        ]

    async def cron(self, name: str) -> dict[str, Any] | None:
        """One cron job with its latest runs, or None where there is none of this name."""
        found = {cron["name"]: cron for cron in await self.crons()}.get(name)
        if found is None:
            return None
        lines: Any = self.redis.lrange(self.cron_key(name, "history"), 0, CRON_HISTORY - 1)
        # A job that was aborted while it ran is finished twice by SAQ.
        runs = {run["key"]: run for run in map(json.loads, await lines)}
        if found["last_key"]:
            last = {"at": found["last_enqueued"], "run_at": 0, "key": found["last_key"], "manual": False}
            runs.setdefault(found["last_key"], last)
        return {**found, "history": sorted(runs.values(), key=lambda run: -run["at"])}

    async def abort_job(self, candidate: Job, history_limit: int) -> bool:
        """
        Abort a job that has not finished; False where there is none any more.

        One that runs is aborted in SAQ's way. In the board's, a job stays in the way of its next run until its worker
        says that it has ended, and a worker that was killed will never say so: no fee would be charged again.
        """
        job = await self.queue.job(candidate.key)
        if job is None or job.status not in (Status.ACTIVE, Status.ABORTING):
            return await super().abort_job(candidate, history_limit)
        await job.abort("aborted from the dashboard")
        return True


class StaffBoard(Board):
    """The board's API. What it can't do here is refused in a sentence, and so is everything while Redis is away."""

    def __init__(self, queue: RedisQueue) -> None:
        # Not the board's own: it would have the queue keep what `tasks.job_history` keeps.
        self.queues = {queue.name: queue}
        self.stores = {queue.name: Runs(queue)}
        self.read_only = False
        self.history_limit = KEPT_MAX

    async def call(
        self, method: str, handler: "Handler", params: dict[str, str], query: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Answer one request: the status, and what goes out as JSON."""

        async def answered(params: dict[str, str], query: Mapping[str, str], body: dict[str, Any]) -> dict[str, Any]:
            try:
                async with asyncio.timeout(BOARD_SECONDS):
                    answer: dict[str, Any] = await handler(params, query, body)
                    return answer
            except (RedisError, OSError):
                raise ApiError(503, "Redis does not answer, so nothing can be told. Try again in a moment.") from None

        if body and not _is_object(body):
            return 400, {"error": "Expected a JSON object."}
        return await super().call(method, answered, params, query, body)

    async def queue_info(self, name: str, jobs: bool = False) -> dict[str, Any]:
        """The queue's numbers. `plugin` would warn that nobody keeps finished jobs."""
        return {**await super().queue_info(name, jobs), "plugin": True}

    async def list_jobs(self, params: dict[str, str], query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """A page of jobs in one state."""
        if len(query.get("offset", "")) > OFFSET_MAX_DIGITS:
            raise ApiError(400, "The offset is too large.")
        return await super().list_jobs(params, query, body)

    async def add_job(self, params: dict[str, str], query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Refused: whoever may add a job may run any of the worker's functions with any arguments."""
        raise ApiError(403, "Jobs can't be added here. Enqueue a cron job instead.")

    async def queue_action(self, params: dict[str, str], query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Something done to all jobs in one state."""
        if params["action"] in ("pause", "resume"):
            raise ApiError(403, "The queue can't be paused: mail and fees would wait. Stop the worker instead.")
        return await super().queue_action(params, query, body)

    async def cron_run(self, store: Store, found: dict[str, Any], action: str) -> None:
        """Run a cron job now, beside its schedule."""
        if action != "enqueue":
            raise ApiError(403, "Cron jobs are part of the code: they can be enqueued, not switched off or deleted.")
        await super().cron_run(store, found, action)


def _next(cron: str) -> float:
    """The first time from now on, in seconds since 1970."""
    at: float = croniter(cron, datetime.now(UTC)).get_next()
    return at


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
