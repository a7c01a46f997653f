"""Migrations while the API serves: payments pass whoever waits for a table, and indexes come beside the writers."""

import asyncio
import importlib
from types import SimpleNamespace
from typing import cast

import asyncpg
import pytest
from asyncpg.exceptions import CheckViolationError, UniqueViolationError
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.conf.apps import MigrationModule
from piccolo.constraints import Check

from db import migrate as migrations
from db.migrate import MigrationError, Step, migrate
from db.online_ddl import ConcurrentIndex, OnlineMigrationManager, make_index
from db.tables import Wallet
from tests.helpers.banks import banks
from tests.helpers.postgres import connected, until_waiting
from tests.helpers.purses import Purse, purses
from tests.helpers.waiting import GIVE_UP_SECONDS, until


def scratch(monkeypatch: pytest.MonkeyPatch, *statements: str, indexes: tuple[ConcurrentIndex, ...] = ()) -> None:
    """One more migration, behind all others."""

    async def forwards() -> MigrationManager:
        manager = MigrationManager(migration_id="9999", app_name="db")

        async def run() -> None:
            for statement in statements:
                await Wallet.raw(statement)

        manager.add_raw(run)
        return manager

    module = SimpleNamespace(__name__="db_9999_scratch", ID="9999", forwards=forwards, INDEXES=indexes)
    steps = [*migrations._steps(), Step("db", "9999", cast(MigrationModule, module))]
    monkeypatch.setattr(migrations, "_steps", lambda: steps)


async def indexes(connection: asyncpg.Connection, name: str) -> list[bool]:
    """Of each index with this name, whether it is valid."""
    rows = await connection.fetch(
        "SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = $1", name
    )
    return [row["indisvalid"] for row in rows]


async def test_a_payment_passes_a_migration_that_waits_for_a_long_transaction(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The long transaction ends only after the payment has come through, and then the migration finishes by itself."""
    scratch(monkeypatch, 'ALTER TABLE "wallet" ADD COLUMN "scratch" int')
    async with banks(1, redis_url) as (bank,), connected(database) as reader:
        alice, bob = await purses(2, holding="100.00", bank=bank)
        async with reader.transaction():
            await reader.fetch('SELECT count(*) FROM "wallet"')
            migrating = asyncio.create_task(migrate(database))
            await until_waiting(database)
            for _ in range(3):
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    await bank.perform(alice.send("10.00", bob))
            assert (await alice.balance(), await bob.balance()) == ("70.00", "130.00")
            assert not migrating.done()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            assert await migrating == ["db_9999_scratch"]
        assert "db_9999_scratch waits for a lock" in caplog.text
        await bank.perform(bob.send("30.00", alice))  # what was planned before the column came still works


async def test_an_index_comes_while_a_writer_holds_rows_and_others_write_on(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch(monkeypatch, indexes=(ConcurrentIndex(name="scratch_index", on='"wallet" ("name")'),))
    async with banks(1, redis_url) as (bank,), connected(database) as writer:
        alice, bob = await purses(2, holding="100.00", bank=bank)
        async with writer.transaction():
            # It has written to the table, so the index waits for its end.
            await writer.execute('UPDATE "wallet" SET "name" = "name" WHERE "system" = \'cash\'')
            migrating = asyncio.create_task(migrate(database))
            await until_waiting(database)
            assert await indexes(writer, "scratch_index") == [False]
            for _ in range(3):
                await bank.perform(alice.send("10.00", bob))
            assert not migrating.done()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            assert await migrating == ["db_9999_scratch"]
        assert await indexes(writer, "scratch_index") == [True]
        assert (await alice.balance(), await bob.balance()) == ("70.00", "130.00")


async def test_what_a_broken_attempt_has_left_is_made_anew(database: str) -> None:
    index = ConcurrentIndex(name="scratch_index", on='"wallet" ("name")', unique=True)
    async with connected(database) as connection:
        with pytest.raises(UniqueViolationError):  # system wallets share their names, so it leaves an invalid index
            await connection.execute(index.statement)
        assert await indexes(connection, "scratch_index") == [False]
        plain = ConcurrentIndex(name="scratch_index", on='"wallet" ("name")')
        assert await make_index(plain) is True
        assert await indexes(connection, "scratch_index") == [True]
        assert await make_index(plain) is False


async def test_an_index_that_the_rows_refuse_leaves_nothing_behind(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch(monkeypatch, indexes=(ConcurrentIndex(name="scratch_index", on='"wallet" ("name")', unique=True),))
    with pytest.raises(MigrationError, match="db_9999_scratch failed"):
        await migrate(database)
    async with connected(database) as connection:
        assert await indexes(connection, "scratch_index") == []


async def test_whoever_migrates_second_waits_says_for_whom_and_finds_nothing_to_do(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An index in the making waits for everybody who was there before: the second one must not be among them."""
    scratch(
        monkeypatch,
        'ALTER TABLE "wallet" ADD COLUMN "scratch" int',
        indexes=(ConcurrentIndex(name="scratch_index", on='"wallet" ("name")'),),
    )
    monkeypatch.setattr(migrations, "SAY_SECONDS", 0)
    async with connected(database) as writer, connected(database) as looker:
        async with writer.transaction():
            await writer.execute('UPDATE "wallet" SET "name" = "name" WHERE "system" = \'cash\'')
            first = asyncio.create_task(migrate(database))
            await until_waiting(database)
            (holder,) = await looker.fetch(
                "SELECT pid, xact_start FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'wallet migrate'"
            )
            second = asyncio.create_task(migrate(database))

            async def has_said() -> bool:
                return "waits for another one" in caplog.text

            await until(has_said)
            assert (
                f"process {holder['pid']} of PostgreSQL, wallet migrate, from 127.0.0.1, since"
                f" {holder['xact_start']:%Y-%m-%d %H:%M:%S} UTC"
            ) in caplog.text
        async with asyncio.timeout(GIVE_UP_SECONDS):
            assert (await first, await second) == (["db_9999_scratch"], [])


async def test_a_check_is_added_without_reading_old_rows_and_validated_later(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(number: int, *, validates: bool) -> Step:
        async def forwards() -> MigrationManager:
            manager = OnlineMigrationManager(migration_id=str(number), app_name="db")
            if validates:
                manager.validate("wallet", "wallet_holds_enough")
            else:
                manager.add_constraint(
                    table_class_name="Wallet",
                    tablename="wallet",
                    constraint_name="wallet_holds_enough",
                    constraint_class=Check,
                    params={"condition": '"user" IS NULL OR "amount" >= 50'},
                )
            return manager

        module = SimpleNamespace(__name__=f"db_{number}_scratch", ID=str(number), forwards=forwards)
        return Step("db", str(number), cast(MigrationModule, module))

    both = [*migrations._steps(), step(9998, validates=False), step(9999, validates=True)]
    async with banks(1, redis_url) as (bank,), connected(database) as connection:
        (poor,) = await purses(1, holding="10.00", bank=bank)
        monkeypatch.setattr(migrations, "_steps", lambda: both[:-1])
        assert await migrate(database) == ["db_9998_scratch"]  # the row that breaks the rule is not read
        with pytest.raises(CheckViolationError):
            await bank.perform(poor.deposit("1.00"))  # what is written is checked
        monkeypatch.setattr(migrations, "_steps", lambda: both)
        with pytest.raises(MigrationError, match="wallet_holds_enough"):
            await migrate(database)
        await bank.perform(poor.deposit("90.00"))
        assert await migrate(database) == ["db_9999_scratch"]
        (row,) = await connection.fetch("SELECT convalidated FROM pg_constraint WHERE conname = 'wallet_holds_enough'")
        assert row["convalidated"]


async def test_tables_that_payments_need_are_had_while_payments_go_on(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were they taken in another order than payments take them, somebody would always have the last of them."""
    room = importlib.import_module("db.migrations.db_0009_room_for_what_a_wallet_can_receive")
    scratch(monkeypatch, room.TAKE_THE_TABLES)
    async with banks(1, redis_url) as (bank,):
        wallets = await purses(10, holding="1.00", bank=bank)
    migrating: asyncio.Task[list[str]] | None = None

    async def lane(wallet: Purse) -> None:
        """What a batch needs of the tables, again and again."""
        async with connected(database) as connection:
            while not (migrating and migrating.done()):
                batch = connection.transaction()
                await batch.start()
                await connection.execute('SELECT 1 FROM "wallet" WHERE "id" = $1 FOR NO KEY UPDATE', wallet.id)
                await asyncio.sleep(0.001)
                await connection.execute(
                    """WITH t AS (
                        INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency",
                            "received_amount", "received_currency", "receiver")
                        VALUES (gen_random_uuid(), 'DEPOSIT', 1, 'KZT', 1, 'KZT', $1) RETURNING "id"
                    ) INSERT INTO "entry" ("transaction", "wallet", "amount") SELECT "id", $1, 1 FROM t""",
                    wallet.id,
                )
                await batch.rollback()

    lanes = [asyncio.create_task(lane(wallet)) for wallet in wallets]
    await asyncio.sleep(0.2)
    migrating = asyncio.create_task(migrate(database))
    async with asyncio.timeout(GIVE_UP_SECONDS):
        await asyncio.gather(*lanes)
    assert migrating.result() == ["db_9999_scratch"]
