"""
Generated, and one guard by hand.

Nobody opens a wallet for an erased person: an access token outlives the erasure by minutes. Both the column and the
trigger need their table for a moment only.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import BigSerial
from piccolo.columns.column_types import Boolean
from piccolo.columns.column_types import JSONB
from piccolo.columns.column_types import Timestamptz
from piccolo.columns.indexes import IndexMethod
from piccolo.table import Table

ID = "2026-11-25T20:08:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "audit results, erased people"


GUARD = (
    # Locked, so that whoever opens a wallet during an erasure waits for its end and sees it. As an unknown user would be
    # refused by the foreign key.
    """
    CREATE FUNCTION refuse_wallets_of_the_erased() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE erased timestamptz;
    BEGIN
        SELECT "erased_at" INTO erased FROM "user" WHERE "id" = NEW."user" FOR SHARE;
        IF erased IS NOT NULL THEN
            RAISE EXCEPTION 'the user of this wallet was erased' USING ERRCODE = 'foreign_key_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER wallet_of_a_person_who_is_here BEFORE INSERT ON "wallet"
    FOR EACH ROW WHEN (NEW."user" IS NOT NULL) EXECUTE FUNCTION refuse_wallets_of_the_erased()
    """,
)


class _Statement(Table, tablename="wallet"):
    """Only a door to `raw`."""


async def forwards():
    manager = MigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )

    manager.add_table(
        class_name="AuditResult",
        tablename="audit_result",
        schema=None,
        columns=None,
    )

    manager.add_column(
        table_class_name="AuditResult",
        tablename="audit_result",
        column_name="id",
        db_column_name="id",
        column_class_name="BigSerial",
        column_class=BigSerial,
        params={
            "null": False,
            "primary_key": True,
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
        table_class_name="AuditResult",
        tablename="audit_result",
        column_name="ok",
        db_column_name="ok",
        column_class_name="Boolean",
        column_class=Boolean,
        params={
            "default": False,
            "null": False,
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
        table_class_name="AuditResult",
        tablename="audit_result",
        column_name="checked_at",
        db_column_name="checked_at",
        column_class_name="Timestamptz",
        column_class=Timestamptz,
        params={
            "default": None,
            "null": False,
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
        table_class_name="AuditResult",
        tablename="audit_result",
        column_name="report",
        db_column_name="report",
        column_class_name="JSONB",
        column_class=JSONB,
        params={
            "default": "{}",
            "null": False,
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
        table_class_name="User",
        tablename="user",
        column_name="erased_at",
        db_column_name="erased_at",
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

    async def guard():
        for statement in GUARD:
            await _Statement.raw(statement)

    manager.add_raw(guard)

    return manager
