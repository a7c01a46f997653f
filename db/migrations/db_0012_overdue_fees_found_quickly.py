"""
By hand: every process asks every few seconds whether fees are overdue, and a blocked wallet's is for as long as it is
blocked. An index of the others alone; a payment writes nothing that is in it.
"""

from db.online_ddl import ConcurrentIndex, OnlineMigrationManager

ID = "2026-11-28T10:10:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "overdue fees found quickly"

INDEXES = [
    ConcurrentIndex(
        name="wallet_fee_overdue",
        on='"wallet" ("fee_due_at") WHERE "user" IS NOT NULL AND frozen_at IS NULL AND is_active',
    )
]


async def forwards():
    return OnlineMigrationManager(
        migration_id=ID, app_name="db", description=DESCRIPTION
    )
