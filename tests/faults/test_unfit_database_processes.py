"""What commands and the worker make of a database that answers and can't serve."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from db.engine import Pool, connection_pool, engine
from db.servers.embedded import Servers, embedded_servers
from db.tables import Wallet
from db.transaction import transaction
from tasks.heartbeat import HEARTBEAT_KEY
from tasks.messages.caught import caught_mail
from tasks.messages.outbox import Outbox
from tasks.queue import open_queue
from tasks.settings import DEVELOPMENT_SECRET
from tests.helpers.banks import NOBODY_LISTENS, banks
from tests.helpers.purses import purses
from tests.helpers.unfit import WAYS, Till, open_till
from tests.helpers.waiting import until
from tests.helpers.wallet_processes import run_wallet, wallet

BY_NAME = {way.name: way for way in WAYS}
NO_INTERNET = {"WALLET_RATES_BASE_URL": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with embedded_servers(tmp_path_factory.mktemp("unfit"), durable=False) as running:
        yield running


@pytest.fixture
async def till(own_servers: Servers) -> AsyncIterator[Till]:
    before = engine().config["dsn"]
    till = await open_till(own_servers)
    engine().config["dsn"] = till.url
    yield till
    engine().config["dsn"] = before
    await till.close()


@pytest.mark.parametrize(
    ("command", "way", "sentence"),
    [
        ("fees", "read-only", "is read-only"),
        ("rates", "disk full", "disk is full"),
        ("audit", "no login", "does not let us in"),
        ("fees", "no connections", "allows no connections"),
    ],
)
async def test_a_command_ends_with_one_sentence(
    till: Till, own_servers: Servers, tmp_path: Path, command: str, way: str, sentence: str
) -> None:
    async with connection_pool(Pool(min_size=1)), banks(1, own_servers.redis_url or "") as (bank,):
        await purses(3, holding="1.00", bank=bank)
        await Wallet.update({Wallet.fee_due_at: datetime.now(UTC) - timedelta(days=1)}, force=True)
    async with till.unfit(BY_NAME[way]):
        urls = {"DATABASE_URL": till.url, "REDIS_URL": own_servers.redis_url or ""}
        done = await asyncio.to_thread(run_wallet, command, folder=tmp_path, **urls, **NO_INTERNET)
    assert done.returncode == 1, done
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith("Error: ") for line in done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("way", "sentence"), [("read-only", "is read-only"), ("no login", "refuses our login")])
async def test_the_worker_says_so_once_and_goes_on_by_itself(
    till: Till, own_servers: Servers, tmp_path: Path, way: str, sentence: str
) -> None:
    redis_url = own_servers.redis_url or ""
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
        with wallet("worker", folder=tmp_path, DATABASE_URL=till.url, REDIS_URL=redis_url, **NO_INTERNET) as process:
            await until(lambda: redis.get(HEARTBEAT_KEY))
            async with till.unfit(BY_NAME[way]):
                await asyncio.sleep(6)  # three deliveries are due, each of which is tried three times
            assert process.poll() is None
            async with connection_pool(Pool(min_size=1)), transaction():
                outbox = Outbox(open_queue(NOBODY_LISTENS), DEVELOPMENT_SECRET, sms=False)
                await outbox.owe(event="afterwards", template="welcome", recipient="ann@x.kz")
            await until(lambda: caught_mail(redis, "ann@x.kz"))
        said = (tmp_path / "output").read_text()
    assert "Traceback" not in said
    about = [line for line in said.splitlines() if "is held up" in line or " job " in line]
    assert 1 <= len(about) <= 3, said
    warned = f"[warning  ] The worker is held up: PostgreSQL {sentence}; it goes on trying."
    assert any(warned in line for line in about), said
