"""
Generated, and an index by hand.

What was given up is few among millions of messages, and Prometheus asks for it every few seconds. The index is of columns
that were there before: it is made beside those who write, and the new columns need their table for a moment only.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import Timestamptz
from piccolo.columns.column_types import Varchar
from piccolo.columns.indexes import IndexMethod

from db.online_ddl import ConcurrentIndex


ID = "2026-11-28T10:30:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "messages that were given up"

INDEXES = [
    ConcurrentIndex(
        name="message_given_up",
        on='"message" ("created_at") WHERE "next_attempt_at" IS NULL AND "sent_at" IS NULL',
    )
]


async def forwards():
    manager = MigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )

    manager.add_column(
        table_class_name="Message",
        tablename="message",
        column_name="given_up_at",
        db_column_name="given_up_at",
        column_class_name="Timestamptz",
        column_class=Timestamptz,
        params={
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
        table_class_name="Message",
        tablename="message",
        column_name="given_up_for",
        db_column_name="given_up_for",
        column_class_name="Varchar",
        column_class=Varchar,
        params={
            "length": 16,
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
