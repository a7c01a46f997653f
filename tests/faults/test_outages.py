"""PostgreSQL and Redis that die under load, and more load than can be carried: what clients of real processes see."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.refusals import OutcomeUnknown
from db.engine import Pool, connection_pool, engine
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers
from db.servers.process import Server
from db.tables import Transaction
from tests.helpers.load import Caller, Dispatcher, Load
from tests.helpers.postgres import assert_audit
from tests.helpers.users import register
from tests.helpers.waiting import until
from tests.helpers.wallet_processes import RealServer, api_servers, server

CALLERS = 8


@pytest.fixture
async def own_servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """A PostgreSQL and a Redis of this test's own, to be killed; what is left in the end must pass the audit."""
    folder = tmp_path / "servers"
    with embedded_servers(folder) as servers:
        assert servers.database_url
        await migrate(servers.database_url)
        engine().config["dsn"] = servers.database_url
        yield servers
        async with connection_pool(Pool(min_size=1, max_size=1)):
            await assert_audit()


@pytest.fixture
def apis(own_servers: Servers, tmp_path: Path) -> Iterator[list[RealServer]]:
    """Two API processes on them."""
    assert own_servers.database_url
    assert own_servers.redis_url
    with api_servers(
        2, database_url=own_servers.database_url, redis_url=own_servers.redis_url, folder=tmp_path
    ) as started:
        yield started


@asynccontextmanager
async def load_on(apis: list[RealServer]) -> AsyncIterator[Load]:
    """Deposits into four wallets as long as the block runs, some before and some after it."""
    async with httpx.AsyncClient(base_url=apis[0].url, timeout=60) as client:
        wallets = [await (await register(client)).open_wallet() for _ in range(4)]
    ports = [httpx.URL(each.url).port for each in apis]
    dispatcher = Dispatcher([port for port in ports if port])
    load = Load(pause_seconds=0.03)
    deposits = cycle((f"/users/wallets/{each.id}/deposit/", each.owner.token) for each in wallets)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CALLERS):
            tasks.create_task(load.run(Caller(dispatcher), lambda: next(deposits)))
        try:
            await load.more(200)
            yield load
            await load.more(200)
        finally:
            load.over = True


def kill(servers: Servers, name: str) -> Server:
    killed = next(each for each in servers.running if each.name == name)
    assert killed.process
    killed.process.kill()
    killed.process.wait()
    return killed


async def ready(api: RealServer) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{api.url}/health/ready")
        return answer.status_code, answer.json()


async def all_say(apis: list[RealServer], part: str, status: str) -> bool:
    return all([(await ready(api))[1]["checks"][part]["status"] == status for api in apis])


async def locks_are_back(apis: list[RealServer], times: int) -> bool:
    return all(api.output.read_text().count("Redis is back") == times for api in apis)


async def in_the_ledger(servers: Servers) -> set[str]:
    async with connection_pool(Pool(min_size=1, max_size=1)):
        return {str(row["id"]) for row in await Transaction.select(Transaction.id)}


async def test_without_redis_no_request_fails_and_locks_come_back_with_it(
    own_servers: Servers, apis: list[RealServer]
) -> None:
    async with load_on(apis) as load:
        for times in (1, 2):
            killed = kill(own_servers, "Valkey")
            await until(partial(all_say, apis, "redis", "down"))
            assert {(await ready(api))[0] for api in apis} == {200}, "degraded, and serving"
            assert {(await ready(api))[1]["status"] for api in apis} == {"degraded"}
            await load.more(200)
            await asyncio.to_thread(killed.start)
            await until(partial(all_say, apis, "redis", "ok"))
            await until(partial(locks_are_back, apis, times))
            await load.more(200)
    assert load.dropped == []
    assert {answer.status for answer in load.answers} == {201}
    assert {answer.body["id"] for answer in load.answers} == await in_the_ledger(own_servers)
    assert [api.output.read_text().count("Redis is gone") for api in apis] == [2, 2], "once for each outage"


async def test_without_postgresql_everyone_is_told_to_come_again_and_service_resumes_by_itself(
    own_servers: Servers, apis: list[RealServer]
) -> None:
    async with load_on(apis) as load:
        for _ in range(3):
            killed = kill(own_servers, "PostgreSQL")
            await until(partial(all_say, apis, "database", "down"))
            assert {(await ready(api))[0] for api in apis} == {503}
            before = len(load.answers)
            await load.more(100)
            assert {answer.status for answer in load.answers[before + CALLERS :]} == {503}
            await asyncio.to_thread(killed.start)
            await until(partial(all_say, apis, "database", "ok"))
            await load.more(200)
    assert load.dropped == []
    refused = [answer for answer in load.answers if answer.status != 201]
    assert {(answer.status, answer.body["code"]) for answer in refused} == {(503, "database_unavailable")}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    made = {answer.body["id"] for answer in load.answers if answer.status == 201}
    there = await in_the_ledger(own_servers)
    assert made <= there
    unknown = [answer for answer in refused if answer.body["detail"] == OutcomeUnknown.detail]
    assert len(there - made) <= len(unknown), "what was told not to have happened has not"


async def test_what_is_too_much_is_refused_at_once_and_nothing_of_it_happens(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    variables = {"DATABASE_URL": database, "REDIS_URL": redis_url, "WALLET_BANK_MAILBOX_MAX": "16"}
    with server("api", folder=tmp_path, **variables) as api:
        api.wait_until_live()
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
            wallet = await (await register(client)).open_wallet()
            other = await (await register(client)).open_wallet()
            path, token = f"/users/wallets/{wallet.id}/deposit/", wallet.owner.token
            dispatcher = Dispatcher([httpx.URL(api.url).port or 0])
            load = Load()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(5 * 16 + 16):
                    tasks.create_task(load.run(Caller(dispatcher), lambda: (path, token)))
                await load.more(2_000)
                assert (await other.deposit("1.00")).status_code in (201, 503)
                load.over = True
    assert load.dropped == []
    refused = [answer for answer in load.answers if answer.status != 201]
    assert refused
    assert {(answer.status, answer.body["code"]) for answer in refused} == {(503, "overloaded")}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    made = {answer.body["id"] for answer in load.answers if answer.status == 201}
    there = {str(row["id"]) for row in await Transaction.select(Transaction.id)}
    assert made <= there
    assert len(there - made) <= 1  # the other wallet's
