"""
Generated, and one statement by hand.

What was revoked lately is asked for by each API process every few seconds: an index of that alone.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import Timestamptz
from piccolo.columns.column_types import UUID
from piccolo.columns.column_types import Varchar
from piccolo.columns.indexes import IndexMethod
from piccolo.constraints import Check

from db.online_ddl import ConcurrentIndex


ID = "2026-11-25T19:40:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "sessions that die early, blocked people"

INDEXES = [
    ConcurrentIndex(
        name="refresh_token_revoked",
        on='"refresh_token" ("revoked_at", "family") WHERE "revoked_at" IS NOT NULL',
    )
]


async def forwards():
    manager = MigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )

    manager.add_column(
        table_class_name="User",
        tablename="user",
        column_name="blocked_at",
        db_column_name="blocked_at",
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
        table_class_name="RefreshToken",
        tablename="refresh_token",
        column_name="signed_in_at",
        db_column_name="signed_in_at",
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
        table_class_name="RefreshToken",
        tablename="refresh_token",
        column_name="user_agent",
        db_column_name="user_agent",
        column_class_name="Varchar",
        column_class=Varchar,
        params={
            "length": 200,
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
        table_class_name="StaffAction",
        tablename="staff_action",
        column_name="user",
        db_column_name="user",
        column_class_name="UUID",
        column_class=UUID,
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

    manager.drop_constraint(
        table_class_name="StaffAction",
        tablename="staff_action",
        constraint_name="staff_action_known",
        schema=None,
    )

    # locks: `staff_action` is short, and no payment reads it.
    manager.add_constraint(
        table_class_name="StaffAction",
        tablename="staff_action",
        constraint_name="staff_action_is_one_of",
        constraint_class=Check,
        params={
            "condition": "\"action\" IN ('ADJUST', 'REVERSE', 'FREEZE', 'UNFREEZE', 'BLOCK', 'UNBLOCK')"
        },
        schema=None,
    )

    return manager
