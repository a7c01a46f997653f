"""
Written by hand: what Piccolo's tables can't say.

- The system wallets for adjustments by staff, with ids that `db/currencies.py` knows.
- What staff did is never changed or deleted.
- A transaction is reversed at most once.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.table import Table

ID = "2026-11-24T16:49:04:000000"
VERSION = "1.38.0"
DESCRIPTION = "adjustments, guards of the staff's log, one reversal a transaction"

FORWARDS = (
    """
    INSERT INTO "wallet" ("id", "system", "wallet_number", "name", "amount_currency")
    SELECT 9 + c."column", 'adjustments', lpad((9 + c."column")::text, 10, '0'), 'adjustments', c.code
    FROM (VALUES (1, 'KZT'), (2, 'EUR'), (3, 'USD')) AS c("column", code)
    """,
    """
    CREATE TRIGGER staff_action_is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON "staff_action"
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_history()
    """,
    'CREATE UNIQUE INDEX "transaction_reversed_once" ON "transaction" ("reverses") WHERE "reverses" IS NOT NULL',
    'CREATE INDEX "staff_action_wallet" ON "staff_action" ("wallet", "created_at")',
)

BACKWARDS = (
    'DROP INDEX "staff_action_wallet"',
    'DROP INDEX "transaction_reversed_once"',
    'DROP TRIGGER "staff_action_is_history" ON "staff_action"',
    'ALTER TABLE "wallet" DISABLE TRIGGER "wallet_stays"',
    'DELETE FROM "wallet" WHERE "system" = \'adjustments\'',
    'ALTER TABLE "wallet" ENABLE TRIGGER "wallet_stays"',
)


class _Statement(Table, tablename="wallet"):
    """Only a door to `raw`."""


async def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        await _Statement.raw(statement)


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="db", description=DESCRIPTION)

    async def run() -> None:
        await _run(FORWARDS)

    async def run_backwards() -> None:
        await _run(BACKWARDS)

    manager.add_raw(run)
    manager.add_raw_backwards(run_backwards)
    return manager
