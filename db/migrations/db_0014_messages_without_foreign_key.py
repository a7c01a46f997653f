"""
By hand: a message that a payment owes waits for nobody who has locked its person's row.

The foreign key made each new message lock that row; a change of somebody's address, or a session with a console, holds it
against that, and the lane waited with all its orders. The ledger's own tables have no foreign keys either. People are not
deleted: erasure keeps their rows.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager

from db.transaction import run

ID = "2026-11-28T11:10:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "messages without a foreign key"


async def forwards():
    manager = MigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )

    async def drop() -> None:
        await run(
            'ALTER TABLE "message" DROP CONSTRAINT IF EXISTS "message_user_fkey"'
        )

    manager.add_raw(drop)
    return manager
