"""
Generated, and one statement by hand.

Adding a column takes a moment, but needs the table for itself, and whoever comes later queues behind whoever waits for
that. So it waits for no more than a fifth of a second at a time, and lets the payments through in between: while a
backup or an audit reads the table for minutes, nobody notices.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import Numeric
from piccolo.columns.column_types import Varchar
from piccolo.columns.indexes import IndexMethod
from piccolo.table import Table

ID = "2026-11-25T12:40:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "references of transfers, balances that replays of bulks tell"

TAKE_THE_TABLE = """
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    LOOP
        BEGIN
            LOCK TABLE "transaction" IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.2);
        END;
    END LOOP;
END $$
"""


class _Statement(Table, tablename="wallet"):
    """Only a door to `raw`."""


async def forwards():
    manager = MigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )

    async def take_the_table():
        await _Statement.raw(TAKE_THE_TABLE)

    manager.add_raw(take_the_table)

    manager.add_column(
        table_class_name="Transaction",
        tablename="transaction",
        column_name="reference",
        db_column_name="reference",
        column_class_name="Varchar",
        column_class=Varchar,
        params={
            "length": 140,
            "default": None,
            "null": True,
            "primary_key": False,
            "unique": False,
            "index": False,
            "index_method": IndexMethod.btree,
            "choices": None,
            "db_column_name": None,
            "secret": False,
        },
        schema=None,
    )

    manager.add_column(
        table_class_name="Transaction",
        tablename="transaction",
        column_name="sender_balance",
        db_column_name="sender_balance",
        column_class_name="Numeric",
        column_class=Numeric,
        params={
            "digits": (14, 2),
            "default": None,
            "null": True,
            "primary_key": False,
            "unique": False,
            "index": False,
            "index_method": IndexMethod.btree,
            "choices": None,
            "db_column_name": None,
            "secret": False,
        },
        schema=None,
    )

    return manager
