"""
Proves the ledger on a live database, in one snapshot and a few set-based statements; keeps what it has found.

Entries sum to zero for each transaction and currency; every balance is the sum of its entries and the last one's
`balance_after`; the chain of `balance_after` has no gap; each transaction's entries say what the transaction says;
what staff did is in their log.

Money is right whatever the dates are. Where a clock was set back, the audit notes whose entries it has dated.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from time import monotonic

import msgspec
from asyncpg import Connection
from msgspec import Struct, field

from db.clocks import CLOCKS_DIFFER, CLOCKS_DIFFER_SECONDS
from db.tables import AuditResult
from db.transaction import snapshot

FINDINGS_MAX = 20
RESULTS_KEPT = 100


class Finding(Struct, frozen=True):
    """What does not hold, and where: the first few places and how many there are."""

    rule: str
    count: int
    examples: list[str]


class AuditReport(Struct, kw_only=True):
    """What was looked at and what was found; `ok` means that everything holds. `notes` are no fault of the ledger's."""

    ok: bool
    checked_at: datetime
    seconds: float
    wallets: int
    transactions: int
    entries: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


class KeptReport(Struct, frozen=True):
    """The latest report that was kept."""

    report: AuditReport
    age: timedelta | None
    """How long ago it looked, by PostgreSQL's clock; None where that is in the future: a clock has jumped."""


_COUNTS = """
SELECT clock_timestamp() AS "checked_at", (SELECT count(*) FROM "wallet") AS "wallets",
    (SELECT count(*) FROM "transaction") AS "transactions", (SELECT count(*) FROM "entry") AS "entries"
"""

# Each statement names what is wrong with one place: no rows means that the rule holds.
_RULES = {
    "a transaction's entries sum to zero in each currency": """
        SELECT e."transaction"::text || ' ' || w."amount_currency" || ' ' || sum(e."amount") AS "place"
        FROM "entry" e JOIN "wallet" w ON w."id" = e."wallet"
        GROUP BY e."transaction", w."amount_currency" HAVING sum(e."amount") <> 0
    """,
    "every entry belongs to a transaction and a wallet": """
        SELECT 'entry ' || e."id" AS "place" FROM "entry" e
        LEFT JOIN "transaction" t ON t."id" = e."transaction" LEFT JOIN "wallet" w ON w."id" = e."wallet"
        WHERE t."id" IS NULL OR w."id" IS NULL
    """,
    "a transaction's wallets have the entries that it tells of": """
        SELECT coalesce(told."id", made."transaction")::text || ' wallet ' || coalesce(told."wallet", made."wallet")
            AS "place"
        FROM (
            SELECT "id", "sender" AS "wallet", -"amount" AS "amount", "amount_currency" AS "currency", 1 AS "legs"
            FROM "transaction" WHERE "sender" IS NOT NULL
            UNION ALL
            SELECT "id", "receiver", "received_amount", "received_currency", 1
            FROM "transaction" WHERE "receiver" IS NOT NULL
        ) told
        FULL JOIN (
            SELECT e."transaction", e."wallet", sum(e."amount") AS "amount", w."amount_currency" AS "currency",
                count(*) AS "legs"
            FROM "entry" e JOIN "wallet" w ON w."id" = e."wallet" WHERE w."user" IS NOT NULL
            GROUP BY e."transaction", e."wallet", w."amount_currency"
        ) made ON made."transaction" = told."id" AND made."wallet" = told."wallet" AND made."legs" = told."legs"
            AND made."amount" = told."amount" AND made."currency" = told."currency"
        WHERE made."wallet" IS NULL OR told."wallet" IS NULL
    """,
    "every transaction moves money of somebody": """
        SELECT "id"::text AS "place" FROM "transaction" WHERE "sender" IS NULL AND "receiver" IS NULL
    """,
    "a balance is the sum of its entries": """
        SELECT 'wallet ' || w."id" || ': ' || w."amount" || ' is not ' || coalesce(e."sum", 0) AS "place"
        FROM "wallet" w
        LEFT JOIN (SELECT "wallet", sum("amount") AS "sum" FROM "entry" GROUP BY "wallet") e ON e."wallet" = w."id"
        WHERE w."user" IS NOT NULL AND w."amount" <> coalesce(e."sum", 0)
    """,
    "each entry's balance follows from the one before, and the last is the wallet's": """
        SELECT 'wallet ' || c."wallet" || ' entry ' || c."id" AS "place"
        FROM (
            SELECT e."id", e."wallet", e."amount", e."balance_after",
                lag(e."balance_after", 1, 0.00) OVER history AS "before",
                lead(e."id") OVER history IS NULL AS "last", w."amount" AS "present"
            FROM "entry" e JOIN "wallet" w ON w."id" = e."wallet" WHERE w."user" IS NOT NULL
            WINDOW history AS (PARTITION BY e."wallet" ORDER BY e."id")
        ) c
        WHERE c."balance_after" IS NULL OR c."balance_after" < 0 OR c."balance_after" <> c."before" + c."amount"
            OR (c."last" AND c."balance_after" <> c."present")
    """,
    "a reversal moves back, once, what its first transaction moved": """
        SELECT r."id"::text AS "place" FROM "transaction" r LEFT JOIN "transaction" t ON t."id" = r."reverses"
        WHERE r."reverses" IS NOT NULL AND (
            t."id" IS NULL OR t."reverses" IS NOT NULL OR r."amount" <> t."received_amount"
            OR r."received_amount" <> t."amount" OR r."amount_currency" <> t."received_currency"
            OR r."received_currency" <> t."amount_currency" OR r."sender" IS DISTINCT FROM t."receiver"
            OR r."receiver" IS DISTINCT FROM t."sender"
        )
    """,
    "what staff moved is in their log, and nothing else is": """
        SELECT coalesce(moved."id", a."id")::text AS "place"
        FROM (
            SELECT "id", 'REVERSE' AS "action" FROM "transaction" WHERE "reverses" IS NOT NULL
            UNION
            SELECT e."transaction", 'ADJUST' FROM "entry" e JOIN "wallet" w ON w."id" = e."wallet"
            JOIN "transaction" t ON t."id" = e."transaction"
            WHERE w."system" = 'adjustments' AND t."reverses" IS NULL
        ) moved
        FULL JOIN (SELECT * FROM "staff_action" WHERE "action" IN ('ADJUST', 'REVERSE')) a
            ON a."id" = moved."id" AND a."transaction" = moved."id" AND a."action" = moved."action"
        WHERE moved."id" IS NULL OR a."id" IS NULL
    """,
    "the sender's balance that a transaction tells is that of its entry": """
        SELECT t."id"::text AS "place" FROM "transaction" t
        JOIN "entry" e ON e."transaction" = t."id" AND e."wallet" = t."sender"
        WHERE t."sender_balance" <> e."balance_after"
    """,
    "an idempotency key belongs to a transaction": """
        SELECT 'key ' || k."id" AS "place" FROM "idempotency_key" k
        LEFT JOIN "transaction" t ON t."id" = k."transaction" WHERE t."id" IS NULL
    """,
    "system wallets keep no balance of their own": """
        SELECT 'wallet ' || "id" AS "place" FROM "wallet" WHERE "system" IS NOT NULL AND "amount" <> 0
    """,
}

_NOTES = {
    "the entries of a wallet are dated in their order, give or take a minute": f"""
        SELECT 'wallet ' || "wallet" || ': back by ' || max("latest" - "created_at") AS "place"
        FROM (
            SELECT e."wallet", t."created_at",
                max(t."created_at") OVER (PARTITION BY e."wallet" ORDER BY e."id") AS "latest"
            FROM "entry" e JOIN "transaction" t ON t."id" = e."transaction" JOIN "wallet" w ON w."id" = e."wallet"
            WHERE w."user" IS NOT NULL
        ) dated
        WHERE "latest" - "created_at" > interval '{CLOCKS_DIFFER_SECONDS} s' GROUP BY "wallet"
    """,  # noqa: S608 - a constant of ours
}


async def audit() -> AuditReport:
    """Look at the whole ledger as of one moment; money may move meanwhile. Changes nothing."""
    started = monotonic()
    async with snapshot() as connection:
        await connection.execute("SET LOCAL work_mem = '256MB'")
        counts = await connection.fetchrow(_COUNTS)
        findings = [found async for found in _found(connection, _RULES)]
        notes = [found async for found in _found(connection, _NOTES)]
    seconds = round(monotonic() - started, 3)
    return AuditReport(ok=not findings, seconds=seconds, findings=findings, notes=notes, **counts)


async def _found(connection: Connection, rules: Mapping[str, str]) -> AsyncIterator[Finding]:
    """What does not hold of these rules."""
    for rule, statement in rules.items():
        places = await connection.fetch(
            f'SELECT "place", count(*) OVER () AS "count" FROM ({statement}) f LIMIT {FINDINGS_MAX}'  # noqa: S608
        )
        if places:
            yield Finding(rule, places[0]["count"], [str(place["place"]) for place in places])


async def keep_result(report: AuditReport) -> None:
    """Keep it where it is as safe as the money. Raises what the database raises when it can't be reached."""
    await AuditResult.raw(
        "INSERT INTO audit_result (ok, checked_at, report) VALUES ({}, {}, {}::jsonb)",
        report.ok,
        report.checked_at,
        msgspec.json.encode(report).decode(),
    )


async def last_result() -> KeptReport | None:
    """The latest that was kept; None where no audit has been."""
    rows = await AuditResult.raw("SELECT report, now() - checked_at AS age FROM audit_result ORDER BY id DESC LIMIT 1")
    if not rows:
        return None
    age: timedelta = rows[0]["age"]
    report = msgspec.json.decode(rows[0]["report"], type=AuditReport)
    return KeptReport(report, max(timedelta(0), age) if age >= -CLOCKS_DIFFER else None)


async def forget_results() -> int:
    """Delete all but the last `RESULTS_KEPT`; how many."""
    gone = await AuditResult.raw(
        "DELETE FROM audit_result WHERE id NOT IN (SELECT id FROM audit_result ORDER BY id DESC LIMIT {}) RETURNING id",
        RESULTS_KEPT,
    )
    return len(gone)
