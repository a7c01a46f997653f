"""A Redis that is a replica or full answers PING and reads: it is named as what is at fault, and is not "back"."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from actors.engine.locks import Lease, Locks
from actors.engine.redis_client import open_redis
from app.settings import Settings
from db.servers.embedded import embedded_servers
from tests.helpers.users import Json
from tests.helpers.waiting import until

REGISTRATION = {"email": "ann@example.com", "phone_number": "+77011234567", "password": "correct horse battery"}
FAULTS = {
    "a replica": (("REPLICAOF", "127.0.0.1", "9"), ("REPLICAOF", "NO", "ONE"), "is a replica and takes no writes"),
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "is full and takes no writes"),
}
each_fault = pytest.mark.parametrize("fault", FAULTS)


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of these tests' own."""
    with embedded_servers(tmp_path_factory.mktemp("valkey"), durable=False, postgres=False) as servers:
        assert servers.redis_url
        yield servers.redis_url


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(valkey_url) as client:
        await client.flushall()
        yield client


@asynccontextmanager
async def at_fault(valkey: Any, fault: str) -> AsyncIterator[None]:
    begin, end, _ = FAULTS[fault]
    await valkey.execute_command(*begin)
    try:
        yield
    finally:
        await valkey.execute_command(*end)


@each_fault
async def test_it_is_gone_until_it_takes_writes_and_that_is_said_once(
    valkey: Any, valkey_url: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actors")
    locks = Locks(valkey_url, Lease(answer_seconds=60, probe_seconds=0.01))

    async def asked() -> int:
        commands = await valkey.info("commandstats")
        return int(commands.get("cmdstat_evalsha", {}).get("calls", 0)) + int(
            commands.get("cmdstat_eval", {}).get("calls", 0)
        )

    async def asked_more_than(times: int) -> bool:
        await locks.take([1])
        return await asked() > times

    async with locks.running(lambda _: None):
        async with at_fault(valkey, fault):
            assert await locks.take([1]) == ("", set())
            await until(partial(asked_more_than, await asked() + 5))
            assert locks.degraded
        await until(lambda: not locks.degraded)
        token, missed = await locks.take([1])
        assert (bool(token), missed) == (True, set())
    told = [record.getMessage() for record in caplog.records if "Redis is" in record.getMessage()]
    assert len(told) == 2
    assert FAULTS[fault][2] in told[0]
    assert "back" in told[1]


async def test_a_connection_that_answered_readonly_is_not_used_again(valkey: Any, valkey_url: str) -> None:
    client = open_redis(valkey_url)
    before = await client.client_id()
    assert await client.client_id() == before
    async with at_fault(valkey, "a replica"):
        with pytest.raises(ReadOnlyError):
            await client.set("anything", 1)
    assert await client.client_id() != before
    await client.aclose()


class TestApi:
    """The API on that Redis."""

    @pytest.fixture
    def settings(self, settings: Settings, valkey_url: str) -> Settings:
        return replace(settings, redis_url=valkey_url)

    @each_fault
    async def test_readiness_and_answers_name_redis_and_not_the_database(
        self, client: httpx.AsyncClient, valkey: Any, fault: str
    ) -> None:
        async with at_fault(valkey, fault):
            ready = await client.get("/health/ready")
            checks: Json = ready.json()["checks"]
            assert (ready.status_code, ready.json()["status"], checks["database"]["status"]) == (200, "degraded", "ok")
            assert (checks["redis"]["status"], checks["redis"]["detail"]) == ("down", f"It {FAULTS[fault][2]}.")
            assert "Redis" in checks["worker"]["detail"]
            for path, body in (
                ("/users/create/", REGISTRATION),
                ("/users/password/reset/", {"email": "ann@example.com"}),
            ):
                answer = await client.post(path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
                assert "Redis" in answer.json()["detail"]
                assert answer.headers["Retry-After"]
        assert (await client.get("/health/ready")).json()["checks"]["redis"]["status"] == "ok"
        assert (await client.post("/users/create/", json=REGISTRATION)).status_code == 201
