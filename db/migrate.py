"""Piccolo's migrations, run quietly, one transaction each, by as many processes at once as like to."""

from contextlib import redirect_stdout
from io import StringIO
from itertools import chain

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.forwards import ForwardsMigrationManager
from piccolo.apps.migrations.tables import Migration
from piccolo.conf.apps import MigrationModule

from db.engine import UNAVAILABLE, engine
from db.piccolo_app import APP_CONFIG
from db.transaction import transaction

APP = APP_CONFIG.app_name

# Whoever migrates this database holds this PostgreSQL advisory lock; the number only has to be ours.
LOCK = 0x57A11E7


class MigrationError(Exception):
    """A migration failed and was rolled back; the sentence names it."""


async def migrate(database_url: str) -> list[str]:
    """
    Run every migration that has not run yet, and return their names.

    A migration and the note that it has run are one commit, so there is no half of it after a crash.

    Raises:
        MigrationError: one failed. Those before it stay.
        UNAVAILABLE: the database can't be reached.
    """
    engine().config["dsn"] = database_url
    modules = _modules()
    done: list[str] = []
    while name := await _run_next(modules):
        done.append(name)
    return done


async def missing_changes() -> list[str]:
    """What the tables say that no migration does yet, as Piccolo would write it. Needs no database, leaves no file."""
    from piccolo.apps.migrations.commands.new import AutoMigrationManager  # here: it brings a code formatter along

    with redirect_stdout(StringIO()):
        changes = await AutoMigrationManager(auto_input="n").get_alter_statements(app_config=APP_CONFIG)
    return list(chain.from_iterable(change.statements for change in changes))


async def _run_next(modules: dict[str, MigrationModule]) -> str | None:
    """Run the oldest migration that has not run; None when there is none left."""
    async with transaction():
        # Held until the commit: another process waits here, and then sees what has run.
        await Migration.raw("SELECT pg_advisory_xact_lock({})", LOCK)
        await Migration.create_table(if_not_exists=True)
        already = await Migration.get_migrations_which_ran(app_name=APP)
        waiting = sorted(modules.keys() - set(already))
        if not waiting:
            return None
        module = modules[waiting[0]]
        name = module.__name__
        try:
            with redirect_stdout(StringIO()):
                manager = await module.forwards()
                if isinstance(manager, MigrationManager):
                    await manager.run()
        except UNAVAILABLE:
            raise
        except Exception as error:
            raise MigrationError(f"The migration {name} failed and was rolled back: {error}") from error
        await Migration.insert(Migration(name=waiting[0], app_name=APP))
        return name


def _modules() -> dict[str, MigrationModule]:
    return ForwardsMigrationManager(app_name=APP).get_migration_modules(APP_CONFIG.resolved_migrations_folder_path)
