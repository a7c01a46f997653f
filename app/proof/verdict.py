"""What the clients were told, beside what is in the ledger."""

from collections import Counter
from typing import Any
from uuid import UUID

from msgspec import Struct, field

from actors.fees import FEE_PERIOD
from app.proof.wishes import Holder, Wish
from db.audit import audit
from db.tables import Wallet

_KEYS = """
SELECT k."user", k."key", t."id", t."operation_type", t."amount", t."sender", t."receiver"
FROM "idempotency_key" k LEFT JOIN "transaction" t ON t."id" = k."transaction"
"""
_MOVEMENTS = """SELECT "id" FROM "transaction" WHERE "operation_type" <> 'FEE'"""
_NEGATIVE = 'SELECT "id" FROM "wallet" WHERE "amount" < 0'
# A period's fee has an id that is made of the wallet and the day, so a second one can't be there; what can be wrong is
# a day that has moved on by less than was charged. Blocked wallets skip periods.
_FEES = """
SELECT w."id", w."fee_due_at", count(t."id") AS "charged"
FROM "wallet" w LEFT JOIN "transaction" t ON t."sender" = w."id" AND t."operation_type" = 'FEE'
WHERE w."user" IS NOT NULL GROUP BY w."id"
"""


class Verdict(Struct, kw_only=True):
    """`lost`: answered as made, and not there. `doubled`: there, and nobody was told so, or twice."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """There is nothing to find fault with."""
        return not (self.lost or self.doubled or self.other)


async def already_there(wishes: list[Wish]) -> set[str]:
    """The keys of those that have happened, whether anyone was told or not."""
    there = {row["key"] for row in await Wallet.raw(_KEYS)}
    return {wish.key for wish in wishes} & there


async def judge(wishes: list[Wish], holders: list[Holder], due_before: dict[int, Any]) -> Verdict:
    """Whether each wish came to what its client was told, once, and nothing else has happened."""
    verdict = Verdict()
    rows: dict[str, dict[str, Any]] = {row["key"]: row for row in await Wallet.raw(_KEYS)}
    for wish in wishes:
        row = rows.get(wish.key)
        if wish.state == "unanswered":
            verdict.other.append(f"{wish.key} has no answer, {wish.sent} times asked")
        elif wish.state == "refused" and row:
            verdict.doubled.append(f"{wish.key} was refused ({wish.code}), and has happened")
        elif wish.state == "made":
            _compare(wish, row, verdict)
    told = Counter(wish.transaction_id for wish in wishes if wish.state == "made")
    verdict.doubled += [f"transaction {id} was told of {times} wishes" for id, times in told.items() if times > 1]
    there = {row["id"] for row in await Wallet.raw(_MOVEMENTS)}
    verdict.doubled += [f"transaction {id} was told to nobody" for id in there - told.keys()]
    verdict.other += [f"wallet {row['id']} is below zero" for row in await Wallet.raw(_NEGATIVE)]
    await _judge_fees({holder.wallet_id for holder in holders}, due_before, verdict)
    report = await audit()
    verdict.other += [f"audit: {finding.rule}: {finding.count}" for finding in report.findings]
    return verdict


def _compare(wish: Wish, row: dict[str, Any] | None, verdict: Verdict) -> None:
    if row is None or row["id"] is None:
        verdict.lost.append(f"{wish.key} was answered as made, and is not there")
        return
    outgoing = wish.kind != "deposit"
    incoming = wish.holder.wallet_id if wish.kind == "deposit" else wish.receiver and wish.receiver.wallet_id
    asked: tuple[UUID | None, str, Any, Any, Any] = (
        wish.transaction_id,
        wish.kind.upper(),
        wish.amount,
        wish.holder.wallet_id if outgoing else None,
        incoming,
    )
    made = (row["id"], row["operation_type"], row["amount"], row["sender"], row["receiver"])
    if asked != made:
        verdict.other.append(f"{wish.key} was told {asked}, and is {made}")


async def _judge_fees(wallet_ids: set[int], due_before: dict[int, Any], verdict: Verdict) -> None:
    for row in await Wallet.raw(_FEES):
        if row["id"] in wallet_ids:
            periods, rest = divmod(row["fee_due_at"] - due_before[row["id"]], FEE_PERIOD)
            if rest or row["charged"] > periods:
                verdict.other.append(f"wallet {row['id']} has paid {row['charged']} fees in {periods} periods")
