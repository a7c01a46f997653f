"""Real servers for every test: PostgreSQL and Valkey are started once, and each test gets a database of its own."""

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self, cast

import asyncpg
import httpx
import pytest
from litestar import Litestar
from redis import Redis

from app.main import create_app
from app.settings import Settings
from db.engine import connection_pool, engine
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers
from tests.helpers.patience import GIVEN_UP_AFTER, PATIENCE_SECONDS, PATIENT_LEASE, PATIENT_LIMITS, PATIENT_POOL
from tests.helpers.postgres import assert_audit
from tests.helpers.staff import forget_admins

_numbers = count(1)

_M_ARENA_MAX = -8  # of malloc.h


def pytest_configure() -> None:
    """
    Keep what is compiled, and let all threads share one heap.

    Hundreds of processes of ours are started here. Where the environment says that no bytecode is written, as that of
    containers does, each of them would compile all modules of ours again, a tenth of what its start takes; and so would
    each process of pytest, with all tests.

    By default each new thread of a process may get one of its own, up to eight for each core, and each keeps the 19 MiB
    that argon2 has worked in. One application has its few threads for life. Here they come and go with each test, and
    a process ended up with half a gigabyte in heaps of threads that were gone.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with suppress(OSError, AttributeError):  # not glibc: it does something else
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def pytest_collection_finish() -> None:
    """
    Let the collector of garbage look at what the tests make, and no longer at what is there for good.

    Each test builds an application out of tens of thousands of objects. Looking through all modules again and again
    meanwhile was a fifth of what that takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """
    On a busy machine whoever answers late counts as there: the outcome of a test is not up to the machine.

    What a test has to say of silence it says with limits of its own, or with those of the product where nobody will
    come: `impatient`.
    """
    if request.node.get_closest_marker("impatient"):
        return
    for name in GIVEN_UP_AFTER:
        monkeypatch.setattr(name, PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """PostgreSQL and Valkey of this test process: real, but careless about power cuts."""
    if urls := os.environ.get("TEST_SERVERS"):  # those of somebody who runs us again and again: `make mutants`
        database_url, redis_url = urls.split()
        yield Servers(database_url=database_url, redis_url=redis_url, running=(), folder=Path())
        return
    with embedded_servers(tmp_path_factory.mktemp("servers"), durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def caretaker(servers: Servers) -> Iterator["Caretaker"]:
    """Who makes databases and takes them away again."""
    assert servers.database_url
    with Caretaker(servers.database_url) as caretaker:
        yield caretaker


@pytest.fixture(scope="session")
def template(servers: Servers, caretaker: "Caretaker") -> str:
    """The name of a migrated database that others are copied from."""
    if not caretaker.fetch("SELECT FROM pg_database WHERE datname = 'template_wallet'"):
        caretaker.fetch("CREATE DATABASE template_wallet")
        caretaker.run(migrate(_database(servers, "template_wallet")))
    return "template_wallet"


@pytest.fixture
def database_url(servers: Servers, caretaker: "Caretaker", template: str, patience: None) -> Iterator[str]:
    """A fresh, migrated database; the engine points to it."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    caretaker.fetch(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine().config["dsn"] = _database(servers, name)
    yield _database(servers, name)
    caretaker.fetch(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(servers: Servers, patience: None) -> str:
    """An empty Valkey."""
    assert servers.redis_url
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushall()
    return servers.redis_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[str]:
    """A fresh database with the pool open, for tests of what lies below the API; it must pass the audit in the end."""
    async with connection_pool(PATIENT_POOL):
        yield database_url
        await assert_audit()


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Those of a development machine."""
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        public_url="http://wallet.test",
        media_folder=str(tmp_path / "media"),
        pool=PATIENT_POOL,
        bank=PATIENT_LIMITS,
        locks=PATIENT_LEASE,
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Litestar]:
    """The API in this process, on real servers; whatever a test did to the money must pass the audit in the end."""
    app = create_app(settings)
    async with _alive(app):
        yield app
        await assert_audit()
    forget_admins()


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API in this process that has not signed in."""
    transport = httpx.ASGITransport(cast(Any, app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as client:
        yield client


class Caretaker:
    """
    Asks the server itself, over one connection that is kept.

    It lives in a thread and an event loop of its own: the tests' loop belongs to the tests.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1)
        self._loop = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection:
            self.run(self._connection.close())
        self._thread.submit(self._loop.close).result()
        self._thread.shutdown()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of this work."""
        return self._thread.submit(self._loop.run, work).result()

    def fetch(self, statement: str) -> list[Any]:
        """The rows that a statement gives."""
        return cast(list[Any], self.run(self._fetch(statement)))

    async def _fetch(self, statement: str) -> Any:
        if self._connection is None or self._connection.is_closed():  # a test may have ended all sessions
            self._connection = await asyncpg.connect(self._url)
        return await self._connection.fetch(statement)


@asynccontextmanager
async def _alive(app: Litestar) -> AsyncIterator[None]:
    """The lifespan in a task of its own: whoever enters it must leave it, and a fixture's two halves are two tasks."""
    up, over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            up.set()
            await over.wait()

    life = asyncio.create_task(live())
    waiting = asyncio.create_task(up.wait())
    await asyncio.wait([life, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if not life.done():
            yield
    finally:
        over.set()
        await life


def _database(servers: Servers, name: str) -> str:
    assert servers.database_url
    return servers.database_url.rsplit("/", 1)[0] + f"/{name}"
