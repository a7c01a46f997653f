"""`target_session_attrs`, and a server that is of the other kind for a while, as during a failover."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from app.commands.errors import sentence
from db.engine import UNAVAILABLE, Pool, connection_pool, engine
from db.suitability import check_postgres
from db.trouble import in_words
from tasks.heartbeat import HEARTBEAT_KEY
from tests.helpers.postgres import connected
from tests.helpers.waiting import GIVE_UP_SECONDS, until
from tests.helpers.wallet_processes import run_wallet, wallet

SENTENCE = "No host is what target_session_attrs asks for, as during a failover."


@pytest.mark.parametrize("kind", ["standby", "read-only"])
async def test_a_server_of_the_other_kind_is_named(database_url: str, kind: str, tmp_path: Path) -> None:
    url = f"{database_url}?target_session_attrs={kind}"
    with pytest.raises(UNAVAILABLE) as met:
        await check_postgres(url, GIVE_UP_SECONDS)
    assert in_words(met.value) == SENTENCE
    assert sentence(met.value) == f"PostgreSQL can't serve at DATABASE_URL. {SENTENCE}"
    engine().config["dsn"] = url
    with pytest.raises(UNAVAILABLE) as of_the_pool:
        async with connection_pool(Pool(min_size=1)):
            pass
    assert in_words(of_the_pool.value) == SENTENCE


async def test_a_worker_waits_for_a_failover_and_a_command_says_so(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    name = database_url.rpartition("/")[2]
    urls = {"DATABASE_URL": f"{database_url}?target_session_attrs=read-write", "REDIS_URL": redis_url}
    async with connected(database_url) as primary, Redis.from_url(redis_url) as redis:
        await primary.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        ended = await asyncio.to_thread(run_wallet, "fees", folder=tmp_path, **urls)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        assert SENTENCE in ended.stderr
        assert "SessionAttribute" not in ended.stderr
        with wallet("worker", folder=tmp_path, **urls) as process:
            waits = f"The worker waits: PostgreSQL: {SENTENCE[0].lower()}{SENTENCE[1:]}"
            await until(lambda: waits in (tmp_path / "output").read_text())
            await primary.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await until(lambda: redis.get(HEARTBEAT_KEY))
            assert process.poll() is None
