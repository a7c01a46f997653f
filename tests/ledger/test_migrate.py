"""Migrations: none is missing, many processes may run them at once, and a failing one leaves nothing half done."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.conf.apps import MigrationModule
from piccolo.table import sort_table_classes

from actors.money import BALANCE_MAX
from db import migrate as migrations
from db.engine import engine
from db.migrate import MigrationError, Step, migrate, missing_changes
from db.piccolo_app import APP_CONFIG
from db.servers.embedded import Servers
from db.tables import Wallet
from tests.helpers.postgres import until_waiting

MIGRATE = "import asyncio, sys; from db.migrate import migrate; print(*asyncio.run(migrate(sys.argv[1])))"


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """A database without a table; the engine points where it did afterwards."""
    name = f"empty_{uuid4().hex}"
    assert servers.database_url
    asyncio.run(execute(servers.database_url, f"CREATE DATABASE {name}"))
    before = engine().config["dsn"]
    yield f"{servers.database_url.rsplit('/', 1)[0]}/{name}"
    engine().config["dsn"] = before
    asyncio.run(execute(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        if ";" in statement:
            return await connection.execute(statement)
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_the_tables_are_what_the_migrations_make() -> None:
    assert await missing_changes() == []


COLUMNS = """
SELECT table_name || '.' || column_name, data_type || coalesce(character_maximum_length::text, '')
    || coalesce(numeric_precision || ',' || numeric_scale, '') || is_nullable
FROM information_schema.columns WHERE table_schema = 'public'
"""
CONSTRAINTS = """
SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'u')
"""


@pytest.mark.parametrize("asked", [COLUMNS, CONSTRAINTS])
async def test_a_migrated_database_has_what_the_tables_say_to_the_letter(
    database_url: str, empty_database: str, asked: str
) -> None:
    """Piccolo compares names: it does not see a check that has another text under its old name, as by a currency."""
    tables = sort_table_classes(APP_CONFIG.table_classes)
    await execute(empty_database, "; ".join(statement for table in tables for statement in table.create_table().ddl))
    said = dict(await execute(empty_database, asked))
    migrated = dict(await execute(database_url, asked))
    assert said
    assert {name: migrated.get(name) for name in said} == said


def test_processes_that_start_at_once_run_each_migration_once(empty_database: str) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", MIGRATE, empty_database], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ran = [process.communicate()[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    names = sorted(name for names in ran for name in names)
    assert names == sorted(set(names)) != []
    assert asyncio.run(migrate(empty_database)) == []


def test_a_failing_migration_is_named_and_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forwards() -> MigrationManager:
        manager = MigrationManager(migration_id="9999", app_name="db")

        async def create_then_fail() -> None:
            await Wallet.raw("CREATE TABLE half_done (id int)")
            await Wallet.raw("SELECT 1 / 0")

        manager.add_raw(create_then_fail)
        return manager

    bad = SimpleNamespace(__name__="db_9999_bad", ID="9999", forwards=forwards)
    steps = [*migrations._steps(), Step("db", "9999", cast(MigrationModule, bad))]
    monkeypatch.setattr(migrations, "_steps", lambda: steps)
    with pytest.raises(MigrationError, match="db_9999_bad failed and was rolled back: division by zero"):
        asyncio.run(migrate(empty_database))
    assert asyncio.run(execute(empty_database, "SELECT to_regclass('half_done') AS made"))[0]["made"] is None
    monkeypatch.undo()
    assert asyncio.run(migrate(empty_database)) == []  # the good ones had stayed


async def test_columns_come_while_a_long_reader_goes_on_and_payments_pass_between_them(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a whole table makes everybody wait: here the reader ends only after they have passed."""
    steps = migrations._steps()
    (place,) = [n for n, step in enumerate(steps) if step.module.__name__.endswith("db_0006_bulk_transfers")]
    monkeypatch.setattr(migrations, "_steps", lambda: steps[:place])
    await migrate(empty_database)
    monkeypatch.undo()
    reader, payer = await asyncpg.connect(empty_database), await asyncpg.connect(empty_database, command_timeout=30)
    try:
        async with reader.transaction():
            await reader.fetch('SELECT count(*) FROM "transaction"')
            migrating = asyncio.create_task(migrate(empty_database))
            await until_waiting(empty_database)
            for _ in range(3):
                await payer.execute(
                    """INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency",
                        "received_amount", "received_currency")
                    VALUES (gen_random_uuid(), 'DEPOSIT', 1, 'KZT', 1, 'KZT')"""
                )
            assert not migrating.done()
        assert await migrating
        rows = await payer.fetch('SELECT "reference", "sender_balance" FROM "transaction"')
        assert [tuple(row) for row in rows] == [(None, None)] * 3
    finally:
        await reader.close()
        await payer.close()


async def test_amounts_get_wider_without_a_row_being_read_or_written(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = migrations._steps()
    (place,) = [n for n, step in enumerate(steps) if "db_0009" in step.module.__name__]
    monkeypatch.setattr(migrations, "_steps", lambda: steps[:place])
    await migrate(empty_database)
    looker = await asyncpg.connect(empty_database)
    try:
        await looker.execute(
            """INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
                "received_currency") SELECT gen_random_uuid(), 'DEPOSIT', n, 'KZT', n, 'KZT'
            FROM generate_series(1, 1000) n;
            SELECT pg_stat_force_next_flush()"""
        )
        monkeypatch.setattr(migrations, "_steps", lambda: steps[: place + 1])
        before = await _files_and_reads(looker)
        assert await migrate(empty_database)
        assert await _files_and_reads(looker) == before
        monkeypatch.undo()
        await migrate(empty_database)
        assert await _files_and_reads(looker) != before, "whoever validates a check reads: so this test can see it"
        await looker.execute('UPDATE "wallet" SET "amount" = $1 WHERE "id" = 1', BALANCE_MAX)
    finally:
        await looker.close()


async def _files_and_reads(looker: asyncpg.Connection) -> list[Any]:
    return [
        tuple(row)
        for row in await looker.fetch(
            """SELECT relname, pg_relation_filenode(relid), seq_scan FROM pg_stat_user_tables
            WHERE relname IN ('entry', 'idempotency_key', 'transaction', 'wallet') ORDER BY relname"""
        )
    ]
