"""
`/health/`: whether this process lives, and whether what it needs is there, each part by name and since when.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Struct, UnsetType
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.background import in_background
from actors.engine.locks import Locks
from actors.engine.redis_client import PROBE_KEY, PROBE_KEY_SECONDS, redis_fault
from actors.engine.seldom import Seldom
from app.http.controller import OrderedController
from app.http.fields import PUBLIC
from db import ledger, trouble
from db.clocks import CLOCKS_DIFFER
from db.engine import UNAVAILABLE
from db.transaction import NothingToKeep, transaction
from tasks.fees import overdue
from tasks.heartbeat import ALIVE, heartbeat_age
from tasks.rates.board import RateBoard

PROBE_SECONDS = 2.0
# How often the parts are checked without being asked: `since` is late by this at most.
CHECK_SECONDS = 5.0
# So many checks at once, each with its questions to PostgreSQL and Redis. Whoever asks beyond that shares the last one.
RUNS_MAX = 8

_DOWN = "The database is down or this process is stopping: send requests to another process."

log = logging.getLogger(__name__)
_no_check = Seldom(log, "a part could not be checked, and counts as down: %r")

State = Literal["ok", "degraded", "down"]
T = TypeVar("T")


class Check(Struct, frozen=True, kw_only=True):
    """One part: `degraded` is less than it should be, `down` is not there. `since` is when that began, in UTC."""

    status: State
    since: datetime
    detail: str | UnsetType = UNSET


class Readiness(Struct, frozen=True, kw_only=True):
    """
    All parts. Without its database the API is down; without any other part it is degraded and still serves.

    A process that is stopping says so by a check named `process`, and is down.
    """

    status: State
    checks: dict[str, Check]


class Observation(Struct, frozen=True, kw_only=True):
    """What one check of a part has shown; `since` where the part itself can tell."""

    status: State
    detail: str | UnsetType = UNSET
    since: datetime | None = None


class HealthChecks:
    """Checks every part now and then, and whenever somebody asks."""

    def __init__(
        self, redis: Redis, locks: Locks, board: RateBoard, media_trouble: Callable[[], Awaitable[str | None]]
    ) -> None:
        self._redis = redis
        self._locks = locks
        self.board = board
        self._media_trouble = media_trouble
        self._checks: dict[str, Check] = {}
        self._stopping_since: datetime | None = None
        self._runs: list[asyncio.Task[Readiness]] = []
        self._asking_database = asyncio.Lock()  # with one of the connections that payments need

    def say_stopping(self) -> None:
        """From now on this process counts as down: whoever asks should send people elsewhere."""
        self._stopping_since = datetime.now(UTC)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep checking as long as the block runs: who asks after an outage should hear when it began."""
        async with in_background(self._run_later):
            yield

    async def run(self) -> Readiness:
        """How everything is at this moment. A part that does not answer within seconds counts as down."""
        if len(self._runs) < RUNS_MAX:
            begun = asyncio.create_task(self._run())
            self._runs.append(begun)
            begun.add_done_callback(self._runs.remove)
        return await asyncio.shield(self._runs[-1])

    async def _run(self) -> Readiness:
        database, redis, worker, fees, media = await asyncio.gather(
            self._database(), self._redis_writes(), self._worker(), _fees(), self._media()
        )
        if redis.status == "down":
            worker = Observation(status="down", detail="Its heartbeat can't be told without Redis.")
        now = datetime.now(UTC)
        checks = {
            name: self._checked(name, observation, now)
            for name, observation in (
                ("database", database),
                ("redis", redis),
                ("rates", self._rates(now)),
                ("worker", worker),
                ("fees", fees),
                ("media", media),
            )
        }
        self._checks = checks
        if since := self._stopping_since:
            detail = "Stopping: finishing what it has accepted."
            stopping = Observation(status="down", detail=detail, since=since)
            checks = checks | {"process": self._checked("process", stopping, now)}
        if database.status == "down" or since:
            return Readiness(status="down", checks=checks)
        well = all(check.status == "ok" for check in checks.values())
        return Readiness(status="ok" if well else "degraded", checks=checks)

    async def _run_later(self) -> None:
        await self.run()
        await asyncio.sleep(CHECK_SECONDS)

    def _checked(self, name: str, observation: Observation, now: datetime) -> Check:
        before = self._checks.get(name)
        unchanged = before.since if before and before.status == observation.status else None
        since = observation.since or unchanged or now
        return Check(status=observation.status, since=since.replace(microsecond=0), detail=observation.detail)

    async def _database(self) -> Observation:
        """Whether it would take a payment: it would lock wallets, and has not refused what was written of late."""
        try:
            await _answer(self._lock_nothing())
        except UNAVAILABLE as error:
            return Observation(status="down", detail=trouble.in_words(error))
        except Exception as error:  # noqa: BLE001 - whoever asks is told, and not with a 500
            _no_check.warn(error)
            return Observation(status="down", detail="It can't be asked.")
        refused = trouble.of_late()
        return Observation(status="down", detail=refused) if refused else Observation(status="ok")

    async def _lock_nothing(self) -> None:
        """What a payment asks first, for no wallet: a standby refuses it, and so does who lacks a table or a right."""
        async with self._asking_database, transaction(reserved=True):
            await ledger.load((), (), ())
            raise NothingToKeep

    def _rates(self, now: datetime) -> Observation:
        rates = self.board.current()
        if rates is None:
            return Observation(status="down", detail="There is no current rate: conversions are refused.")
        source = f"{rates.source}, as of {rates.as_of:%Y-%m-%d %H:%M} UTC"
        if rates.valid_until <= now:
            detail = f"The last rates are too old, conversions are refused: {source}."
            return Observation(status="down", detail=detail, since=rates.valid_until)
        if rates.as_of > now + CLOCKS_DIFFER:
            detail = f"The rates are dated in the future, so a clock is wrong: {source}."
            return Observation(status="degraded", detail=detail)
        if since := self.board.overdue_since():
            detail = f"Not confirmed since {since:%Y-%m-%d %H:%M} UTC; conversions still use them: {source}."
            return Observation(status="degraded", detail=detail, since=since)
        return Observation(status="ok", detail=source)

    async def _media(self) -> Observation:
        found = await self._media_trouble()
        return Observation(status="degraded", detail=found) if found else Observation(status="ok")

    async def _redis_writes(self) -> Observation:
        try:
            await _answer(self._redis.set(PROBE_KEY, 1, ex=PROBE_KEY_SECONDS))
        except (RedisError, OSError) as error:
            return Observation(status="down", detail=f"It {redis_fault(error)}.")
        if self._locks.degraded:
            return Observation(status="degraded", detail="No wallet can be locked in it; see the log for why.")
        return Observation(status="ok")

    async def _worker(self) -> Observation:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                age = await heartbeat_age(self._redis)
        except (RedisError, OSError):
            return Observation(status="down", detail="Its heartbeat can't be read without Redis.")
        if age is None:
            return Observation(status="down", detail="No worker has told that it lives: start `wallet worker`.")
        seconds = age // timedelta(seconds=1)
        if age > ALIVE:
            detail = f"No heartbeat for {seconds} seconds: is `wallet worker` running?"
            return Observation(status="down", detail=detail, since=datetime.now(UTC) - age)
        return Observation(status="ok", detail=f"Last heartbeat {seconds} seconds ago.")


async def _fees() -> Observation:
    try:
        late = await _answer(overdue())
    except UNAVAILABLE:
        return Observation(status="degraded", detail="Whether fees are overdue can't be read without the database.")
    except Exception as error:  # noqa: BLE001 - as above
        _no_check.warn(error)
        return Observation(status="degraded", detail="It can't be asked.")
    if not late.wallets:
        return Observation(status="ok")
    minutes = int(late.seconds // 60)
    detail = f"Fees that were due {minutes} minutes ago have not been charged: does `wallet worker` do its jobs?"
    return Observation(status="degraded", detail=detail, since=datetime.now(UTC) - timedelta(seconds=late.seconds))


async def _answer(question: Awaitable[T]) -> T:
    """What comes of a question. Raises `TimeoutError` in time, also where asyncpg, hanging up, waits once more."""
    asked = asyncio.ensure_future(question)
    asked.add_done_callback(_retrieve_error)
    try:
        await asyncio.wait([asked], timeout=PROBE_SECONDS)
        if asked.done():
            return asked.result()
    finally:
        asked.cancel()
    raise TimeoutError


def _retrieve_error(asked: asyncio.Future[Any]) -> None:
    """Or its error would be logged as one that was never retrieved."""
    if not asked.cancelled():
        asked.exception()


class HealthController(OrderedController):
    """For load balancers and people on call."""

    path = "/health"
    tags = ["Health"]
    security = PUBLIC

    @get("/live", summary="Is the process alive?", response_description="The process is alive.")
    async def live(self) -> dict[str, str]:
        """Returns 200 as long as the process can answer."""
        return {"status": "ok"}

    @get(
        "/ready",
        summary="Is the service ready?",
        response_description="`ok`, or `degraded` if anything but the database is missing.",
        responses={503: ResponseSpec(Readiness, description=_DOWN, generate_examples=False)},
    )
    async def ready(self, health_checks: NamedDependency[HealthChecks]) -> Response[Readiness]:
        """Reports database, Redis, rates, worker, overdue fees and images, each with its state and since when."""
        readiness = await health_checks.run()
        down = readiness.status == "down"
        return Response(readiness, status_code=503 if down else 200, headers={"Retry-After": "1"} if down else None)
