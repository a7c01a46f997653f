"""Whether the process lives, and whether what it needs is there, each by name."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest
from litestar import Litestar
from redis.asyncio import Redis

from app.proof.cable import Cable
from app.settings import Settings
from app.telemetry import health
from db.engine import Pool
from tasks.heartbeat import HEARTBEAT_KEY, KEPT, beat
from tests.helpers.banks import NOBODY_LISTENS
from tests.helpers.prices import publish_rates

PARTS = {"database", "redis", "rates", "worker", "fees", "media"}


async def test_a_process_that_lives_says_so_to_anybody(client: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/health/live/", "/api/v1/health/live"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_without_rates_and_worker_it_is_degraded_and_serves(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready/")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    states = {name: check["status"] for name, check in answer.json()["checks"].items()}
    expected = {"database": "ok", "redis": "ok", "rates": "down", "worker": "down", "fees": "ok", "media": "ok"}
    assert states == expected


async def test_hundreds_who_ask_at_once_share_a_few_answers(client: httpx.AsyncClient, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        probes = "cmdstat_set"
        before = (await redis.info("commandstats")).get(probes, {"calls": 0})["calls"]
        asking = [asyncio.create_task(client.get("/health/ready")) for _ in range(300)]
        for _ in range(20):
            await asyncio.sleep(0)
        for each in asking[:10]:  # whoever goes away takes nobody's answer along
            each.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        asked = (await redis.info("commandstats"))[probes]["calls"] - before
    assert [each for each in answers[10:] if not isinstance(each, httpx.Response)] == []
    assert {each.status_code for each in answers if isinstance(each, httpx.Response)} == {200}
    assert asked < 100


class TestReady:
    """With rates and a worker's heartbeat."""

    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        await publish_rates(settings.redis_url)
        async with Redis.from_url(settings.redis_url) as redis:
            await beat(redis)
        return settings

    async def test_everything_is_there_each_by_name(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        ready = answer.json()
        assert ready["status"] == "ok"
        assert ready["checks"].keys() == PARTS
        assert {check["status"] for check in ready["checks"].values()} == {"ok"}

    async def test_rates_that_were_not_confirmed_for_too_long_are_degraded(
        self, client: httpx.AsyncClient, app: Litestar, settings: Settings
    ) -> None:
        board = app.state.health_checks.board
        for minutes, status in ((64, "ok"), (66, "degraded")):
            await publish_rates(settings.redis_url, age=timedelta(minutes=minutes))
            await board._refresh()
            ready = (await client.get("/health/ready")).json()
            assert (ready["status"], ready["checks"]["rates"]["status"]) == (status, status)
        assert "Not confirmed since" in ready["checks"]["rates"]["detail"]
        since = datetime.now(UTC) - datetime.fromisoformat(ready["checks"]["rates"]["since"])
        assert timedelta(minutes=65) < since < timedelta(minutes=75)

    async def test_a_part_that_is_down_is_named_with_the_moment_since_when(
        self, client: httpx.AsyncClient, settings: Settings
    ) -> None:
        before = (await client.get("/health/ready")).json()["checks"]
        silent = timedelta(minutes=10)
        async with Redis.from_url(settings.redis_url) as redis:
            await redis.expire(HEARTBEAT_KEY, KEPT - silent)
        ready = (await client.get("/health/ready")).json()
        assert ready["status"] == "degraded"
        assert "wallet worker" in ready["checks"]["worker"]["detail"]
        down_for = datetime.now(UTC) - datetime.fromisoformat(ready["checks"]["worker"]["since"])
        assert silent <= down_for < silent + timedelta(seconds=30)
        # The others are as they were, since when they were.
        del before["worker"], ready["checks"]["worker"]
        assert ready["checks"] == before


@pytest.mark.impatient
class TestWithoutRedis:
    """Nobody listens there."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, redis_url=NOBODY_LISTENS)

    async def test_it_is_degraded_and_serves(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        checks = answer.json()["checks"]
        assert (checks["database"]["status"], checks["redis"]["status"]) == ("ok", "down")
        assert "password" not in answer.text


class TestSilentDatabase:
    """The way to it is open, and nothing comes through."""

    @pytest.fixture
    def settings(self, settings: Settings, line: Cable) -> Settings:
        """Behind the cable, and nothing else ends a question: a statement may take an hour."""
        return msgspec.structs.replace(settings, pool=Pool(statement_timeout_seconds=3600))

    async def test_it_is_down_while_it_is_silent_and_not_only_afterwards(
        self, client: httpx.AsyncClient, line: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(3):
            assert (await client.get("/health/ready")).status_code == 200
            with monkeypatch.context() as hasty:
                hasty.setattr(health, "PROBE_SECONDS", 0.1)
                line.hush()
                answer = await asyncio.wait_for(client.get("/health/ready"), 30)
            assert (answer.status_code, answer.json()["checks"]["database"]["status"]) == (503, "down")
            assert answer.headers["Retry-After"] == "1"
            line.speak()
