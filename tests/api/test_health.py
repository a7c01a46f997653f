"""Whether the process lives, and whether what it needs is there, each by name."""

from datetime import UTC, datetime

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from app.settings import Settings
from tasks.worker import HEARTBEAT_KEY
from tests.faults.real_servers import publish_rates

PARTS = {"database", "redis", "rates", "worker"}


async def test_a_process_that_lives_says_so_to_anybody(client: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/health/live/", "/api/v1/health/live"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_without_rates_and_worker_it_is_degraded_and_serves(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready/")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    states = {name: check["status"] for name, check in answer.json()["checks"].items()}
    assert states == {"database": "ok", "redis": "ok", "rates": "down", "worker": "down"}


class TestReady:
    """With rates and a worker's heartbeat."""

    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        await publish_rates(settings.redis_url)
        beat = {"at": datetime.now(UTC), "pid": 1}
        redis: Redis = Redis.from_url(settings.redis_url)
        await redis.set(HEARTBEAT_KEY, msgspec.json.encode(beat))
        await redis.aclose()
        return settings

    async def test_everything_is_there_each_by_name(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        ready = answer.json()
        assert ready["status"] == "ok"
        assert ready["checks"].keys() == PARTS
        assert {check["status"] for check in ready["checks"].values()} == {"ok"}


class TestWithoutRedis:
    """Nobody listens there."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1/0")

    async def test_it_is_degraded_and_serves(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        checks = answer.json()["checks"]
        assert (checks["database"]["status"], checks["redis"]["status"]) == ("ok", "down")
        assert "password" not in answer.text
