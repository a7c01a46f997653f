"""What the clients were told, beside what is in the ledger."""

from collections import Counter
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from actors.fees import FEE_PERIOD
from app.proof.wishes import Holder, Movement, Wish
from db.audit import audit
from db.tables import Wallet

_KEYS = 'SELECT "key", "transaction" FROM "idempotency_key"'
_MOVEMENTS = """
SELECT "id", "operation_type", "amount", "sender", "receiver" FROM "transaction" WHERE "operation_type" <> 'FEE'
"""
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


async def judge(wishes: list[Wish], holders: list[Holder], due_before: dict[int, datetime]) -> Verdict:
    """Whether each wish came to what its client was told, once, and nothing else has happened."""
    verdict = Verdict()
    keys: dict[str, UUID] = {row["key"]: row["transaction"] for row in await Wallet.raw(_KEYS)}
    ledger = {
        row["id"]: Movement(row["operation_type"], row["amount"], row["sender"], row["receiver"])
        for row in await Wallet.raw(_MOVEMENTS)
    }
    for wish in wishes:
        if wish.state == "unanswered":
            verdict.other.append(f"{wish.key} has no answer, {wish.sent} times asked")
        elif wish.state == "refused" and wish.key in keys:
            verdict.doubled.append(f"{wish.key} was refused ({wish.codes}), and has happened")
        elif wish.state == "made" and keys.get(wish.key) not in wish.made:
            verdict.other.append(f"the key {wish.key} stands for {keys.get(wish.key)}, its client was told otherwise")
        for id, payment in wish.made.items():
            if id not in ledger:
                verdict.lost.append(f"{wish.key} was answered with {id}, which is not there")
            elif ledger[id] != wish.movement(payment):
                verdict.other.append(f"{wish.key} was told {wish.movement(payment)}, and is {ledger[id]}")
    told = Counter(id for wish in wishes for id in wish.made)
    verdict.doubled += [f"transaction {id} was told of {times} wishes" for id, times in told.items() if times > 1]
    verdict.doubled += [f"transaction {id} was told to nobody" for id in ledger.keys() - told.keys()]
    verdict.other += [f"wallet {row['id']} is below zero" for row in await Wallet.raw(_NEGATIVE)]
    await _judge_fees({holder.wallet_id for holder in holders}, due_before, verdict)
    report = await audit()
    verdict.other += [f"audit: {finding.rule}: {finding.count}" for finding in report.findings]
    return verdict


async def _judge_fees(wallet_ids: set[int], due_before: dict[int, datetime], verdict: Verdict) -> None:
    for row in await Wallet.raw(_FEES):
        if row["id"] in wallet_ids:
            periods, rest = divmod(row["fee_due_at"] - due_before[row["id"]], FEE_PERIOD)
            if rest or row["charged"] > periods:
                verdict.other.append(f"wallet {row['id']} has paid {row['charged']} fees in {periods} periods")
