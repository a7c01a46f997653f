"""
Generated, and two statements by hand.

A wider NUMERIC of the same scale is a note in the catalogue: PostgreSQL rewrites no row. But it would read them all
again for the checks on these columns, so those are made anew, NOT VALID, and the next migration validates them.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.columns.column_types import Numeric
from piccolo.table import Table

ID = "2026-11-28T06:30:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "room for what a wallet can receive"

# In the order in which payments need them: whoever has a wallet already needs the others, and would have to wait for us
# while we wait for the wallet. Then it takes a moment, since nothing is read.
# locks: the migration's own lock_timeout ends each wait, and a table is let go before the next attempt.
TAKE_THE_TABLES = 'LOCK TABLE "wallet", "transaction", "idempotency_key", "entry" IN ACCESS EXCLUSIVE MODE'
CHECKS_ANEW = (
    """
    ALTER TABLE "transaction" DROP CONSTRAINT "transaction_amounts_positive",
        ADD CONSTRAINT "transaction_amounts_positive" CHECK ("amount" > 0 AND "received_amount" > 0) NOT VALID
    """,
    """
    ALTER TABLE "wallet" DROP CONSTRAINT "wallet_amount_not_negative",
        ADD CONSTRAINT "wallet_amount_not_negative" CHECK ("amount" >= 0) NOT VALID
    """,
)


class _Statement(Table, tablename="wallet"):
    """Only a door to `raw`."""


async def forwards():
    manager = MigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )

    async def make_ready():
        for statement in (TAKE_THE_TABLES, *CHECKS_ANEW):
            await _Statement.raw(statement)

    manager.add_raw(make_ready)

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="Entry",
        tablename="entry",
        column_name="amount",
        db_column_name="amount",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="Entry",
        tablename="entry",
        column_name="balance_after",
        db_column_name="balance_after",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="IdempotencyKey",
        tablename="idempotency_key",
        column_name="balance_after",
        db_column_name="balance_after",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="Transaction",
        tablename="transaction",
        column_name="amount",
        db_column_name="amount",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="Transaction",
        tablename="transaction",
        column_name="received_amount",
        db_column_name="received_amount",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="Transaction",
        tablename="transaction",
        column_name="sender_balance",
        db_column_name="sender_balance",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    # locks: the same scale and more digits rewrite nothing
    manager.alter_column(
        table_class_name="Wallet",
        tablename="wallet",
        column_name="amount",
        db_column_name="amount",
        params={"digits": (27, 2)},
        old_params={"digits": (14, 2)},
        column_class=Numeric,
        old_column_class=Numeric,
        schema=None,
    )

    return manager
