"""What audits have found, kept where it is as safe as the money: who asks later learns when the last one was."""

from datetime import UTC, datetime, timedelta

import msgspec

from db.audit import AuditReport
from db.tables import AuditResult

KEPT = 100


async def keep_result(report: AuditReport) -> None:
    """Write it down. Raises what the database raises when it can't be reached."""
    await AuditResult.raw(
        "INSERT INTO audit_result (ok, checked_at, report) VALUES ({}, {}, {}::jsonb)",
        report.ok,
        report.checked_at,
        msgspec.json.encode(report).decode(),
    )


async def last_result() -> AuditReport | None:
    """The latest that was kept; None where no audit has been."""
    rows = await AuditResult.raw("SELECT report FROM audit_result ORDER BY id DESC LIMIT 1")
    return msgspec.json.decode(rows[0]["report"], type=AuditReport) if rows else None


async def forget_results() -> int:
    """Delete all but the last `KEPT`; how many."""
    gone = await AuditResult.raw(
        "DELETE FROM audit_result WHERE id NOT IN (SELECT id FROM audit_result ORDER BY id DESC LIMIT {}) RETURNING id",
        KEPT,
    )
    return len(gone)


def age(report: AuditReport) -> timedelta:
    """How long ago it looked; nothing, where the clock that wrote it is ahead of ours."""
    return max(timedelta(0), datetime.now(UTC) - report.checked_at)
