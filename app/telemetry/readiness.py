"""What this process needs of the world, each part by name: whether it is there, and since when it is or is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.background import in_background
from db.engine import UNAVAILABLE
from db.tables import Wallet
from tasks.heartbeat import ALIVE, heartbeat_age
from tasks.rates.board import RateBoard

ANSWER_SECONDS = 2.0
# So often it is looked without being asked: `since` is late by this at most.
LOOK_SECONDS = 5.0

State = Literal["ok", "degraded", "down"]


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


class Finding(Struct, frozen=True, kw_only=True):
    """What one look at a part has shown; `since` where the part itself can tell."""

    status: State
    detail: str | UnsetType = UNSET
    since: datetime | None = None


class Lookout:
    """Looks at every part now and then, and whenever somebody asks."""

    def __init__(self, redis: Redis, board: RateBoard) -> None:
        self._redis = redis
        self.board = board
        self._checks: dict[str, Check] = {}
        self._stopping_since: datetime | None = None

    def say_stopping(self) -> None:
        """From now on this process counts as down: whoever asks should send people elsewhere."""
        self._stopping_since = datetime.now(UTC)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep looking as long as the block runs: who asks after an outage should hear when it began."""
        async with in_background(self._look_later):
            yield

    async def look(self) -> Readiness:
        """How everything is at this moment. A part that does not answer within seconds counts as down."""
        database, redis, worker = await asyncio.gather(
            _reachable(Wallet.raw("SELECT 1")), _reachable(self._redis.ping()), self._worker()
        )
        now = datetime.now(UTC)
        checks = {
            name: self._checked(name, finding, now)
            for name, finding in (
                ("database", database),
                ("redis", redis),
                ("rates", self._rates(now)),
                ("worker", worker),
            )
        }
        self._checks = checks
        if since := self._stopping_since:
            stopping = Finding(status="down", detail="It is stopping, and finishes what it has accepted.", since=since)
            checks = checks | {"process": self._checked("process", stopping, now)}
        if database.status == "down" or since:
            return Readiness(status="down", checks=checks)
        well = all(check.status == "ok" for check in checks.values())
        return Readiness(status="ok" if well else "degraded", checks=checks)

    async def _look_later(self) -> None:
        await self.look()
        await asyncio.sleep(LOOK_SECONDS)

    def _checked(self, name: str, finding: Finding, now: datetime) -> Check:
        before = self._checks.get(name)
        unchanged = before.since if before and before.status == finding.status else None
        since = finding.since or unchanged or now
        return Check(status=finding.status, since=since.replace(microsecond=0), detail=finding.detail)

    def _rates(self, now: datetime) -> Finding:
        rates = self.board.current()
        if rates is None:
            return Finding(status="down", detail="There is no current rate: conversions are refused.")
        source = f"{rates.source}, as of {rates.as_of:%Y-%m-%d %H:%M} UTC"
        if rates.valid_until <= now:
            detail = f"The last rates are too old, conversions are refused: {source}."
            return Finding(status="down", detail=detail, since=rates.valid_until)
        return Finding(status="ok", detail=source)

    async def _worker(self) -> Finding:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                age = await heartbeat_age(self._redis)
        except (RedisError, OSError):
            return Finding(status="down", detail="Its heartbeat can't be read without Redis.")
        if age is None:
            return Finding(status="down", detail="No worker has ever run: start `wallet worker`.")
        seconds = age // timedelta(seconds=1)
        if age > ALIVE:
            detail = f"No heartbeat for {seconds} seconds: is `wallet worker` running?"
            return Finding(status="down", detail=detail, since=datetime.now(UTC) - age)
        return Finding(status="ok", detail=f"Last heartbeat {seconds} seconds ago.")


async def _reachable(question: Any) -> Finding:
    asked = asyncio.ensure_future(question)
    asked.add_done_callback(_look_at)
    try:
        answered, _ = await asyncio.wait([asked], timeout=ANSWER_SECONDS)
        if answered:
            asked.result()
            return Finding(status="ok")
    except (*UNAVAILABLE, RedisError):
        pass
    finally:
        asked.cancel()  # without waiting for it: asyncpg, hanging up, waits for the server once more
    return Finding(status="down", detail="It does not answer.")


def _look_at(asked: asyncio.Future[Any]) -> None:
    """Or its error would be logged as one that nobody has looked at."""
    if not asked.cancelled():
        asked.exception()
