"""Whether this process lives, and whether what it needs is there, each by name."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Struct, UnsetType
from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.engine import UNAVAILABLE
from db.tables import Wallet
from tasks.rates import RateBoard
from tasks.worker import HEARTBEAT_KEY

ANSWER_SECONDS = 2.0

State = Literal["ok", "degraded", "down"]


class Check(Struct, frozen=True, kw_only=True):
    """One part: `degraded` is less than it should be, `down` is not there."""

    status: State
    detail: str | UnsetType = UNSET


class Readiness(Struct, frozen=True, kw_only=True):
    """All parts. Without its database the API is down; without any other part it is degraded and still serves."""

    status: State
    checks: dict[str, Check]


class HealthController(Controller):
    """For load balancers and people on call."""

    path = "/health"
    tags = ["Health"]
    security: list[dict[str, list[str]]] = [{}]  # no token is needed; an empty list would be left out

    @get("/live", summary="Is the process alive?")
    async def live(self) -> dict[str, str]:
        """Answers as long as the process can."""
        return {"status": "ok"}

    @get(
        "/ready",
        summary="Is everything there?",
        responses={503: ResponseSpec(Readiness, description="The database is down.", generate_examples=False)},
    )
    async def ready(self, redis: NamedDependency[Redis], board: NamedDependency[RateBoard]) -> Response[Readiness]:
        """The database, Redis, the exchange rates and the worker, each by name. 503 where the database is down."""
        database, cache, worker = await asyncio.gather(
            _reachable(Wallet.raw("SELECT 1")), _reachable(redis.ping()), _worker(redis)
        )
        checks = {"database": database, "redis": cache, "rates": _rates(board), "worker": worker}
        if database.status == "down":
            status: State = "down"
        else:
            status = "ok" if all(check.status == "ok" for check in checks.values()) else "degraded"
        return Response(
            Readiness(status=status, checks=checks),
            status_code=503 if status == "down" else 200,
            headers={"Retry-After": "1"} if status == "down" else None,
        )


async def _reachable(question: Any) -> Check:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await question
    except (*UNAVAILABLE, RedisError):
        return Check(status="down", detail="It does not answer.")
    return Check(status="ok")


def _rates(board: RateBoard) -> Check:
    rates = board.current()
    if rates is None or rates.valid_until <= datetime.now(UTC):
        return Check(status="down", detail="There is no current rate: conversions are refused.")
    detail = f"{rates.source}, as of {rates.as_of:%Y-%m-%d %H:%M} UTC"
    return Check(status="ok", detail=detail)


async def _worker(redis: Redis) -> Check:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            beat = await redis.get(HEARTBEAT_KEY)
    except (RedisError, OSError, TimeoutError):
        return Check(status="down", detail="Its heartbeat can't be read without Redis.")
    if beat is None:
        return Check(status="down", detail="No heartbeat for half a minute: is `wallet worker` running?")
    at = msgspec.json.decode(beat)
    return Check(status="ok", detail=f"Last heartbeat at {at['at'] if isinstance(at, dict) else at}.")
