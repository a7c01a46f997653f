"""Piccolo's migrations, run quietly, one transaction each, by as many processes at once as like to."""

from contextlib import redirect_stdout
from io import StringIO
from itertools import chain

from msgspec import Struct
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.forwards import ForwardsMigrationManager
from piccolo.apps.migrations.tables import Migration
from piccolo.apps.user.piccolo_app import APP_CONFIG as STAFF_LOGINS
from piccolo.conf.apps import MigrationModule
from piccolo_api.session_auth.piccolo_app import APP_CONFIG as STAFF_SESSIONS

from db.engine import UNAVAILABLE, engine
from db.piccolo_app import APP_CONFIG
from db.transaction import transaction

# In this order. The logins and sessions of staff are Piccolo's own tables, with migrations of its own.
APPS = (STAFF_LOGINS, STAFF_SESSIONS, APP_CONFIG)

# Whoever migrates this database holds this PostgreSQL advisory lock; the number only has to be ours.
LOCK = 0x57A11E7


class MigrationError(Exception):
    """A migration failed and was rolled back; the sentence names it."""


class Step(Struct, frozen=True):
    """A migration: whose it is, its id, and its code."""

    app_name: str
    id: str
    module: MigrationModule


async def migrate(database_url: str) -> list[str]:
    """
    Run every migration that has not run yet, and return their names.

    A migration and the note that it has run are one commit, so there is no half of it after a crash.

    Raises:
        MigrationError: one failed. Those before it stay.
        UNAVAILABLE: the database can't be reached.
    """
    engine().config["dsn"] = database_url
    steps = _steps()
    done: list[str] = []
    while name := await _run_next(steps):
        done.append(name)
    return done


async def missing_changes() -> list[str]:
    """What the tables say that no migration does yet, as Piccolo would write it. Needs no database, leaves no file."""
    from piccolo.apps.migrations.commands.new import AutoMigrationManager  # here: it brings a code formatter along

    with redirect_stdout(StringIO()):
        changes = await AutoMigrationManager(auto_input="n").get_alter_statements(app_config=APP_CONFIG)
    return list(chain.from_iterable(change.statements for change in changes))


async def _run_next(steps: list[Step]) -> str | None:
    """Run the first migration that has not run; None when there is none left."""
    async with transaction():
        # Held until the commit: another process waits here, and then sees what has run.
        await Migration.raw("SELECT pg_advisory_xact_lock({})", LOCK)
        await Migration.create_table(if_not_exists=True)
        rows = await Migration.select(Migration.app_name, Migration.name)
        already = {(row["app_name"], row["name"]) for row in rows}
        step = next((step for step in steps if (step.app_name, step.id) not in already), None)
        if step is None:
            return None
        name = step.module.__name__
        try:
            with redirect_stdout(StringIO()):
                manager = await step.module.forwards()
                if isinstance(manager, MigrationManager):
                    await manager.run()
        except UNAVAILABLE:
            raise
        except Exception as error:
            raise MigrationError(f"The migration {name} failed and was rolled back: {error}") from error
        await Migration.insert(Migration(name=step.id, app_name=step.app_name))
        return name


def _steps() -> list[Step]:
    steps = []
    for app in APPS:
        modules = ForwardsMigrationManager(app_name=app.app_name).get_migration_modules(
            app.resolved_migrations_folder_path
        )
        steps += [Step(app.app_name, id, modules[id]) for id in sorted(modules)]
    return steps
