"""By hand: the checks that the migration before this one made anew are held against the rows from before."""

from db.online_ddl import OnlineMigrationManager

ID = "2026-11-28T06:31:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "checks of amounts validated"


async def forwards():
    manager = OnlineMigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )
    manager.validate("transaction", "transaction_amounts_positive")
    manager.validate("wallet", "wallet_amount_not_negative")
    return manager
