"""Nightly work: prove the ledger, and forget what nobody needs any more."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.audit import audit
from db.tables import Message

AUDIT_KEY = "wallet:audit"

# Small enough that a batch holds its locks for a moment only, with a pause in which others get their turn.
BATCH = 1_000
PAUSE_SECONDS = 0.05

# What is forgotten, and when. Keys are promised to live for 7 days at least; a refresh token's row must outlive the
# token, or a stolen one used late would look unknown rather than used twice.
_FORGOTTEN = {
    "idempotency_key": "created_at < now() - interval '8 days'",
    "refresh_token": "expires_at < now() - interval '1 day'",
    "message": "next_attempt_at IS NULL AND created_at < now() - interval '90 days'",
}

_log = logging.getLogger(__name__)


class Audited(Struct, frozen=True, kw_only=True):
    """The last audit, as it stands in Redis."""

    at: datetime
    ok: bool
    report: Any


async def clean_up() -> dict[str, int]:
    """Delete old idempotency keys, expired refresh tokens and old messages in batches; how many of each."""
    return {table: await _forget(table, condition) for table, condition in _FORGOTTEN.items()}


async def _forget(table: str, condition: str) -> int:
    # By address: the rows of a batch are found once, and the batch needs no order and no index of its own.
    statement = (
        f"WITH gone AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY("  # noqa: S608 both are constants above
        f"SELECT ctid FROM {table} WHERE {condition} LIMIT {{}})) AND {condition} RETURNING 1)"
        " SELECT count(*) AS gone FROM gone"
    )
    total = 0
    while gone := (await Message.raw(statement, BATCH))[0]["gone"]:
        total += gone
        await asyncio.sleep(PAUSE_SECONDS)
    return total


async def audit_and_keep(redis: Redis) -> Audited:
    """Prove the ledger, log an error if it does not hold, and keep the result under `wallet:audit`."""
    report = await audit()
    audited = Audited(at=datetime.now(UTC), ok=report.ok, report=msgspec.to_builtins(report))
    if not audited.ok:
        _log.error("The ledger does not hold: %s", msgspec.json.encode(audited.report).decode())
    try:
        await redis.set(AUDIT_KEY, msgspec.json.encode(audited))
    except (RedisError, OSError) as error:
        _log.warning("The audit's result could not be kept: %s", type(error).__name__)
    return audited
