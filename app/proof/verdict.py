"""What the clients were told, beside what is in the ledger."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from actors.rules.fees import FEE_PERIOD
from app.proof.office import Act
from app.proof.wishes import Holder, Movement, Wish
from db.audit import audit
from db.tables import IdempotencyKey, Transaction, Wallet

_KEYS = 'SELECT "key", "transaction" FROM "idempotency_key"'
_MOVEMENTS = """
SELECT "id", "operation_type", "amount", "sender", "receiver", "reverses"
FROM "transaction" WHERE "operation_type" <> 'FEE'
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


async def already_there(wishes: Sequence[Wish]) -> set[str]:
    """The keys of those that have happened, whether anyone was told or not."""
    there = {row["key"] for row in await IdempotencyKey.raw(_KEYS)}
    return {wish.key for wish in wishes} & there


async def judge_doubts(wishes: Sequence[Wish], acts: Sequence[Act]) -> Verdict:
    """
    While some still wait for an answer: whether all that has happened is what somebody was told of, or can be what
    somebody is in doubt about, each at most once. What was put off with "nothing has happened" is in no doubt.
    """
    told = {id for wish in wishes for id in wish.made} | {act.made for act in acts}
    doubted = Counter(wish.movement(ask) for wish in wishes if wish.in_doubt for ask in wish.asks)
    doubted.update(act.adjustment for act in acts if act.in_doubt and act.kind == "adjust")
    undone = {act.transaction_id for act in acts if act.kind == "reverse" and (act.in_doubt or act.undone_already)}
    verdict = Verdict()
    for id, row in (await _ledger()).items():
        if id in told or row.reverses in undone:
            continue
        if not doubted[row.as_asked]:
            verdict.doubled.append(f"transaction {id}, {row.as_asked}, was there while nobody was in doubt about it")
        doubted[row.as_asked] -= 1
    return verdict


async def judge(
    wishes: Sequence[Wish], acts: Sequence[Act], holders: Sequence[Holder], due_before: dict[int, datetime]
) -> Verdict:
    """Whether each wish and act came to what was told of it, once, and nothing else has happened."""
    verdict = Verdict()
    keys: dict[str, UUID] = {row["key"]: row["transaction"] for row in await IdempotencyKey.raw(_KEYS)}
    ledger = await _ledger()
    for wish in wishes:
        _judge_wish(wish, keys, ledger, verdict)
    undone = {each.reverses for each in ledger.values()}
    for act in acts:
        _judge_act(act, keys, ledger, undone, verdict)
    told = Counter(id for wish in wishes for id in wish.made)
    told.update(act.made for act in acts if act.made)
    # Who asked twice to undo one thing, and got no answer first, was told that it is undone, not by which transaction.
    told.update(id for id, each in ledger.items() if each.reverses and id not in told and _undone(each.reverses, acts))
    verdict.doubled += [f"transaction {id} was told of {times} wishes" for id, times in told.items() if times > 1]
    verdict.doubled += [f"transaction {id}, {ledger[id]}, was told to nobody" for id in ledger.keys() - told.keys()]
    verdict.other += [f"wallet {row['id']} is below zero" for row in await Wallet.raw(_NEGATIVE)]
    await _judge_fees({holder.wallet_id for holder in holders}, due_before, verdict)
    report = await audit()
    verdict.other += [f"audit: {finding.rule}: {finding.count}" for finding in report.findings]
    return verdict


def _judge_wish(wish: Wish, keys: dict[str, UUID], ledger: dict[UUID, "_Row"], verdict: Verdict) -> None:
    if wish.state == "unanswered":
        verdict.other.append(f"{wish.key} has no answer, {wish.sent} times asked")
    elif wish.state == "refused" and wish.key in keys:
        verdict.doubled.append(f"{wish.key} was refused ({wish.codes}), and has happened")
    elif wish.state == "made" and keys.get(wish.key) not in wish.made:
        verdict.other.append(f"the key {wish.key} stands for {keys.get(wish.key)}, its client was told otherwise")
    for id, payment in wish.made.items():
        if id not in ledger:
            verdict.lost.append(f"{wish.key} was answered with {id}, which is not there")
        elif ledger[id].as_asked != wish.movement(payment):
            verdict.other.append(f"{wish.key} was told {wish.movement(payment)}, and is {ledger[id].as_asked}")


def _judge_act(
    act: Act, keys: dict[str, UUID], ledger: dict[UUID, "_Row"], undone: set[UUID | None], verdict: Verdict
) -> None:
    if act.state == "unanswered":
        verdict.other.append(f"{act.reference} has no answer, {act.sent} times asked")
    elif act.state == "refused" and act.reference in keys:
        verdict.doubled.append(f"{act.reference} was refused, and has happened")
    elif act.undone_already and act.transaction_id not in undone:
        verdict.lost.append(f"{act.transaction_id} was said to be reversed, and is not")
    elif act.made and act.made not in ledger:
        verdict.lost.append(f"{act.reference} was answered with {act.made}, which is not there")
    elif act.made and act.kind == "adjust" and ledger[act.made].as_asked != act.adjustment:
        verdict.other.append(f"{act.reference} asked for {act.adjustment}, and is {ledger[act.made].as_asked}")
    elif act.made and act.kind == "reverse" and ledger[act.made].reverses != act.transaction_id:
        verdict.other.append(f"{act.reference} undid {ledger[act.made].reverses} instead of {act.transaction_id}")


def _undone(transaction_id: UUID, acts: Sequence[Act]) -> bool:
    """Whether somebody asked for it in vain first, and then was told that it is undone."""
    return any(act.transaction_id == transaction_id and act.undone_already and act.broken for act in acts)


async def _ledger() -> dict[UUID, "_Row"]:
    """All that moved money, but fees."""
    return {
        row["id"]: _Row(
            Movement(row["operation_type"], row["amount"], row["sender"], row["receiver"]), reverses=row["reverses"]
        )
        for row in await Transaction.raw(_MOVEMENTS)
    }


class _Row(Struct, frozen=True):
    """A transaction of the ledger: what somebody can have asked for, and which one it undoes."""

    as_asked: Movement
    reverses: UUID | None


async def _judge_fees(wallet_ids: set[int], due_before: dict[int, datetime], verdict: Verdict) -> None:
    for row in await Wallet.raw(_FEES):
        if row["id"] in wallet_ids:
            periods, rest = divmod(row["fee_due_at"] - due_before[row["id"]], FEE_PERIOD)
            if rest or row["charged"] > periods:
                verdict.other.append(f"wallet {row['id']} has paid {row['charged']} fees in {periods} periods")
