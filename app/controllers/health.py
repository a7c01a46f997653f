"""Whether this process lives, and whether what it needs is there, each by name."""

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from app.telemetry.readiness import Lookout, Readiness

DOWN = "The database is down, or this process is stopping: ask another one."


class HealthController(Controller):
    """For load balancers and people on call."""

    path = "/health"
    tags = ["Health"]
    security: list[dict[str, list[str]]] = [{}]  # no token is needed; an empty list would be left out

    @get("/live", summary="Is the process alive?", response_description="It is.")
    async def live(self) -> dict[str, str]:
        """Answers as long as the process can."""
        return {"status": "ok"}

    @get(
        "/ready",
        summary="Is everything there?",
        response_description="It serves: `ok`, or `degraded` where something is missing but the database.",
        responses={503: ResponseSpec(Readiness, description=DOWN, generate_examples=False)},
    )
    async def ready(self, lookout: NamedDependency[Lookout]) -> Response[Readiness]:
        """Database, Redis, rates, worker: each by name, and since when. 503 without the database or when stopping."""
        readiness = await lookout.look()
        down = readiness.status == "down"
        return Response(readiness, status_code=503 if down else 200, headers={"Retry-After": "1"} if down else None)
