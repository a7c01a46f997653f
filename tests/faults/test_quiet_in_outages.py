"""An idle process writes a handful of lines about an outage, however long it lasts and whatever the server answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.helpers.waiting import until
from tests.helpers.wallet_processes import server, wallet

# Long enough for any loop without a pause to say the same thing thousands of times.
OUTAGE_SECONDS = 6.0
LINES_MAX = 15
BYTES_MAX = 20_000


@asynccontextmanager
async def redis_that_answers_errors() -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*"):
                writer.write(b"-ERR something is wrong here\r\n")
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
    finally:
        listening.close()


@pytest.fixture
async def login(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Our own session, and a login that can be refused."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE ROLE refusable LOGIN SUPERUSER PASSWORD 'refusable'")
    yield connection
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'refusable'")
    await connection.execute("DROP ROLE refusable")
    await connection.close()


@pytest.mark.parametrize("part", ["api", "worker"])
async def test_an_idle_process_says_little_of_a_redis_that_answers_errors(
    part: str, database_url: str, tmp_path: Path
) -> None:
    async with redis_that_answers_errors() as redis_url:
        addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        running = (
            server("api", folder=tmp_path, **addresses) if part == "api" else wallet(part, folder=tmp_path, **addresses)
        )
        with running:
            await until(lambda: "Redis" in (tmp_path / "output").read_text())
            await asyncio.sleep(OUTAGE_SECONDS)
            _quiet((tmp_path / "output").read_text(), part)


@pytest.mark.parametrize("part", ["api", "worker"])
async def test_an_idle_process_says_little_of_logins_that_are_refused(
    part: str, login: asyncpg.Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    place = database_url.rpartition("@")[2]
    addresses = {"DATABASE_URL": f"postgresql://refusable:refusable@{place}", "REDIS_URL": redis_url}
    with ExitStack() as stack:
        if part == "api":
            stack.enter_context(server("api", folder=tmp_path, **addresses)).wait_until_live()
        else:
            stack.enter_context(wallet(part, folder=tmp_path, **addresses))
            await until(lambda: "The worker is ready." in (tmp_path / "output").read_text())
        await asyncio.sleep(1)
        said = len((tmp_path / "output").read_text())
        await login.execute("ALTER ROLE refusable NOLOGIN")
        await login.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'refusable'")
        await asyncio.sleep(OUTAGE_SECONDS)
        _quiet((tmp_path / "output").read_text()[said:], part)


def _quiet(said: str, part: str) -> None:
    assert said, f"the {part} should say that something is wrong"
    assert len(said.splitlines()) <= LINES_MAX, said
    assert len(said) <= BYTES_MAX, said
