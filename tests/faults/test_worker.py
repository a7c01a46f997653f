"""The worker as a process: its servers die and forget, it is killed, and what is owed still goes out."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from saq import Queue

from db.engine import Pool, connection_pool, engine
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers
from db.transaction import transaction
from tasks.heartbeat import HEARTBEAT_KEY
from tasks.messages.caught import caught_mail
from tasks.messages.outbox import Outbox
from tasks.queue import SILENCE_SECONDS, open_queue
from tasks.rates.store import cached
from tests.helpers.banks import NOBODY_LISTENS
from tests.helpers.waiting import GIVE_UP_SECONDS

SECRET = "a secret of at least thirty-two bytes"
# What takes a few seconds on a quiet machine. A worker that waits for what it need not takes half a minute to stop.
SOON_SECONDS = 25.0
SILENT = "redis://127.0.0.1:{port}/0"

# Nobody listens on port 9: this machine has no internet as far as the worker knows.
WORKER = f"""
import asyncio, os
from tasks.rates.api import RatesSource
from tasks.settings import WorkerSettings
from tasks.worker import run_worker
asyncio.run(run_worker(WorkerSettings(
    environment="development", secret={SECRET!r},
    database_url=os.environ["DATABASE_URL"], redis_url=os.environ["REDIS_URL"],
    rates=RatesSource(base_url="http://127.0.0.1:9"),
)))
"""


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that nobody else minds being killed."""
    before = engine().config.get("dsn")
    with embedded_servers(tmp_path_factory.mktemp("doomed"), durable=False) as running:
        engine().config["dsn"] = running.database_url
        yield running
    engine().config["dsn"] = before


@pytest.fixture
async def redis(own_servers: Servers) -> AsyncIterator[Redis]:
    assert own_servers.database_url
    assert own_servers.redis_url
    engine().config["dsn"] = own_servers.database_url
    await migrate(own_servers.database_url)
    async with Redis.from_url(own_servers.redis_url) as client:
        await client.flushall()
        yield client


def start_worker(servers: Servers) -> subprocess.Popen[bytes]:
    assert servers.database_url
    assert servers.redis_url
    environment = {**os.environ, "DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    return subprocess.Popen([sys.executable, "-c", WORKER], env=environment, cwd=Path(__file__).parents[2])


@pytest.fixture
async def worker(own_servers: Servers, redis: Redis) -> AsyncIterator[subprocess.Popen[bytes]]:
    process = start_worker(own_servers)
    await until_alive(redis)
    yield process
    process.kill()
    process.wait()


async def until_alive(redis: Redis) -> None:
    ends_at = time.monotonic() + GIVE_UP_SECONDS
    while not await redis.get(HEARTBEAT_KEY):
        assert time.monotonic() < ends_at
        await asyncio.sleep(0.1)


async def owe(event: str) -> str:
    """A message that nobody hastens: what finds it is the sweep."""
    to = f"{event}-{time.monotonic_ns()}@x.kz"
    async with connection_pool(Pool(min_size=1)), transaction():
        await Outbox(open_queue(NOBODY_LISTENS), SECRET, sms=False).owe(event=to, template="welcome", recipient=to)
    return to


async def arrived(redis: Redis, to: str) -> float:
    """Seconds until the message is in the mailbox."""
    began = time.monotonic()
    while time.monotonic() - began < GIVE_UP_SECONDS:
        try:
            if await caught_mail(redis, to):
                return time.monotonic() - began
        except OSError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"the message to {to} did not arrive")


async def jobs_of(queue: Queue) -> int:
    """How many wait, or are in the hands of a worker: it has one as soon as Redis does, even if it stands still."""
    return await queue.count("queued") + await queue.count("active")


async def test_a_message_is_found_within_seconds_and_at_once_when_hastened(
    worker: subprocess.Popen[bytes], own_servers: Servers, redis: Redis
) -> None:
    assert await arrived(redis, await owe("swept")) < SOON_SECONDS
    queue = open_queue(own_servers.redis_url or "")
    worker.send_signal(signal.SIGSTOP)
    to, before = await owe("hastened"), await jobs_of(queue)
    await Outbox(queue, SECRET, sms=False).hasten()
    assert await jobs_of(queue) == before + 1, "a delivery is asked for now, whenever the next sweep is"
    worker.send_signal(signal.SIGCONT)
    await queue.disconnect()
    assert await arrived(redis, to) < SOON_SECONDS


async def test_without_internet_there_are_rates_at_once(worker: subprocess.Popen[bytes], redis: Redis) -> None:
    known = await cached(redis)
    assert known
    assert known.quote.source == "snapshot of 2026-11-20"


async def test_a_message_goes_out_although_redis_forgot_every_job(
    worker: subprocess.Popen[bytes], redis: Redis
) -> None:
    to = await owe("flushed")
    await redis.flushall()
    assert await arrived(redis, to) < 2 * SOON_SECONDS


@pytest.mark.parametrize("name", ["Valkey", "PostgreSQL"])
async def test_the_worker_goes_on_by_itself_when_a_server_that_died_is_back(
    worker: subprocess.Popen[bytes], own_servers: Servers, redis: Redis, name: str
) -> None:
    (server,) = (each for each in own_servers.running if each.name == name)
    assert server.process
    server.process.kill()
    server.process.wait()
    await asyncio.sleep(4)
    assert worker.poll() is None
    own_servers.revive()
    await arrived(redis, await owe("outage"))
    assert worker.poll() is None


@pytest.mark.parametrize("url", [NOBODY_LISTENS, SILENT])
async def test_redis_gone_or_silent_makes_haste_harmless(url: str) -> None:
    async with await asyncio.start_server(_silent, "127.0.0.1", 0) as silent:
        queue = open_queue(url.format(port=silent.sockets[0].getsockname()[1]))
        began = time.monotonic()
        await Outbox(queue, SECRET, sms=False).hasten()
        assert time.monotonic() - began < SILENCE_SECONDS, "nobody waits until the connection counts as dead"
        await queue.disconnect()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_what_a_killed_worker_left_another_one_sends(
    worker: subprocess.Popen[bytes], own_servers: Servers, redis: Redis
) -> None:
    worker.kill()
    worker.wait()
    to = await owe("killed")
    successor = start_worker(own_servers)
    try:
        await arrived(redis, to)
    finally:
        successor.send_signal(signal.SIGTERM)
        assert successor.wait(timeout=GIVE_UP_SECONDS) == 0


async def test_told_to_stop_the_worker_ends_soon_and_well(worker: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    while worker.poll() is None and time.monotonic() - began < GIVE_UP_SECONDS:  # noqa: ASYNC110 a process is no event
        await asyncio.sleep(0.05)
    assert worker.returncode == 0
    assert time.monotonic() - began < SOON_SECONDS
