"""Piccolo's migrations, run quietly, one transaction each, while the API serves and however many start at once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from io import StringIO
from itertools import chain, count
from time import monotonic

import asyncpg
from asyncpg.exceptions import LockNotAvailableError
from msgspec import Struct
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.forwards import ForwardsMigrationManager
from piccolo.apps.migrations.tables import Migration
from piccolo.apps.user.piccolo_app import APP_CONFIG as STAFF_LOGINS
from piccolo.conf.apps import MigrationModule
from piccolo_api.session_auth.piccolo_app import APP_CONFIG as STAFF_SESSIONS

from db.engine import UNAVAILABLE, engine
from db.errors import ReadableError
from db.online_ddl import make_index
from db.piccolo_app import APP_CONFIG
from db.transaction import CommitInDoubt, run, transaction

# In this order. The logins and sessions of staff are Piccolo's own tables, with migrations of its own.
APPS = (STAFF_LOGINS, STAFF_SESSIONS, APP_CONFIG)

# Whoever migrates this database holds this PostgreSQL advisory lock; the number only has to be ours.
LOCK = 0x57A11E7
# Its transaction has as much time as the migrations take, whatever else the database allows; not every version has both
# limits. It is asked for in one simple query: an extended one would keep its snapshot as long as the transaction, and
# an index that is made concurrently would wait for that.
TAKE_LOCK = f"""BEGIN;
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout');
DO $$ BEGIN IF NOT pg_try_advisory_xact_lock({LOCK}) THEN RAISE lock_not_available; END IF; END $$"""  # noqa: S608 a number of our own
ASK_AGAIN_SECONDS = 0.1
# Whoever waits says for whom after so long, and again each time that so long has passed.
SAY_SECONDS = 1.0
SAY_AGAIN_SECONDS = 60.0

# A migration makes payments wait for so long at most, and leaves them alone for so long in between.
LOCK_TIMEOUT_MS = 200
PAUSE_SECONDS = 0.5
# After how many attempts somebody is told: at once, after a minute and after a quarter of an hour, about.
SAID_AT = (1, 100, 1_300)

_log = logging.getLogger(__name__)


class MigrationError(ReadableError):
    """A migration failed and was rolled back; the message names it."""


class Step(Struct, frozen=True):
    """A migration: whose it is, its id, and its code."""

    app_name: str
    id: str
    module: MigrationModule


async def migrate(database_url: str) -> list[str]:
    """
    Run every migration that has not run yet, and return their names.

    A migration and the note that it has run are one commit, so there is no half of it after a crash. What its `INDEXES`
    name is made before that, concurrently. One that can't have its locks is tried again until it can.

    Raises:
        MigrationError: one failed. Those before it stay.
        UNAVAILABLE: the database can't be reached.
    """
    engine().config["dsn"] = database_url
    async with _alone():
        missing = await _missing(_steps())
        for step in missing:
            await _run(step)
    return [step.module.__name__ for step in missing]


async def missing_changes() -> list[str]:
    """What the tables say that no migration does yet, as Piccolo would write it. Needs no database, leaves no file."""
    from piccolo.apps.migrations.commands.new import AutoMigrationManager  # here: it brings a code formatter along

    with redirect_stdout(StringIO()):
        changes = await AutoMigrationManager(auto_input="n").get_alter_statements(app_config=APP_CONFIG)
    return list(chain.from_iterable(change.statements for change in changes))


async def check_schema(seconds: float) -> None:
    """
    Ask for every column of every table, and for no row: without them nobody should be served.

    Raises:
        UNAVAILABLE: the database did not let us connect within so many seconds.
        asyncpg.PostgresError: it does not let us in, or a table or a column is missing: a migration has not run.
    """
    connection = await asyncpg.connect(**engine().config, timeout=seconds)
    try:
        await connection.execute("; ".join(str(table.select().limit(0)) for table in APP_CONFIG.table_classes))
    finally:
        await connection.close()


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """
    Be the only one who migrates this database for as long as the block runs.

    The lock is that of a transaction. One of a session would outlive us behind a pooler, which keeps the session.

    Whoever has to wait asks again instead of waiting in a statement: an open statement would hold up an index that
    whoever is first makes concurrently, which waits for everybody else's.
    """
    connection = await asyncpg.connect(**engine().config, server_settings={"application_name": "wallet migrate"})
    try:
        say_at = monotonic() + SAY_SECONDS
        while not await _taken(connection):
            if monotonic() >= say_at:
                say_at = monotonic() + SAY_AGAIN_SECONDS
                _log.warning("This migration waits for another one of this database: %s.", await _holder(connection))
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        yield
    finally:
        await connection.close()  # and with it end the transaction and the lock


async def _taken(connection: asyncpg.Connection) -> bool:
    try:
        await connection.execute(TAKE_LOCK)
    except LockNotAvailableError:
        await connection.execute("ROLLBACK")
        return False
    return True


async def _holder(connection: asyncpg.Connection) -> str:
    """Whose lock it is. PostgreSQL tells those who may not know nothing but the process id and the name."""
    row = await connection.fetchrow(
        """SELECT a.pid, a.application_name, a.client_addr, coalesce(a.xact_start, a.backend_start) AS since
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = $1 AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
        LOCK,
    )
    if row is None:
        return "it has just ended"
    name, address = row["application_name"] or "without a name", row["client_addr"]
    where = f", from {address}" if address else ""
    since = f", since {row['since']:%Y-%m-%d %H:%M:%S} UTC" if row["since"] else ""
    return f"process {row['pid']} of PostgreSQL, {name}{where}{since}"


async def _missing(steps: list[Step]) -> list[Step]:
    """Those that have not run, in their order."""
    async with transaction():
        await Migration.create_table(if_not_exists=True)
        rows = await Migration.select(Migration.app_name, Migration.name)
    already = {(row["app_name"], row["name"]) for row in rows}
    return [step for step in steps if (step.app_name, step.id) not in already]


async def _run(step: Step) -> None:
    """
    Run a migration, as often as it takes until it gets its locks.

    Whoever waits for a whole table makes everybody wait who comes after, payments too. So it waits for a moment only,
    gives everything back, and lets the others through before it asks again.
    """
    name = step.module.__name__
    for attempt in count(1):
        try:
            for index in getattr(step.module, "INDEXES", ()):
                await make_index(index)
            await _try(step)
            return
        except LockNotAvailableError:
            if attempt in SAID_AT:
                _log.warning("The migration %s waits for a lock that somebody holds; it goes on trying.", name)
            await asyncio.sleep(PAUSE_SECONDS)
        except (CommitInDoubt, *UNAVAILABLE):
            raise
        except Exception as error:
            raise MigrationError(f"The migration {name} failed and was rolled back: {error}") from error


async def _try(step: Step) -> None:
    async with transaction():
        await run(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
        with redirect_stdout(StringIO()):
            manager = await step.module.forwards()
            if isinstance(manager, MigrationManager):
                await manager.run()
        await Migration.insert(Migration(name=step.id, app_name=step.app_name))


def _steps() -> list[Step]:
    steps = []
    for app in APPS:
        modules = ForwardsMigrationManager(app_name=app.app_name).get_migration_modules(
            app.resolved_migrations_folder_path
        )
        steps += [Step(app.app_name, id, modules[id]) for id in sorted(modules)]
    return steps
