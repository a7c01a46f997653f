"""What `wallet prove` would find, if there were something to find."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from actors.orders import Order, Receipt, Reverse, StaffMember, new_id
from actors.refusals import Refusal
from app.proof.office import Act, ActKind
from app.proof.verdict import Verdict, already_there, judge, judge_doubts
from app.proof.wishes import Ask, Holder, Kind, Wish
from db.tables import Wallet
from tests.helpers.banks import banks
from tests.helpers.purses import Purse, purse


def holder(of: Purse) -> Holder:
    return Holder(wallet_id=of.id, number=of.number, currency="KZT", user_id=of.owner, token="")


def purse_of(wish: Wish) -> Purse:
    return Purse(id=wish.holder.wallet_id, owner=wish.holder.user_id, number=wish.holder.number)


def wish(kind: Kind, key: str, of: Purse, amount: str, to: Purse | None = None) -> Wish:
    ask = Ask(amount=Decimal(amount), receiver=holder(to) if to else None)
    return Wish(kind=kind, key=key, holder=holder(of), asks=[ask])


async def true_story(redis_url: str) -> tuple[list[Wish], list[Holder], dict[int, Any]]:
    """Three payments that happened, and one that was refused, told as they were."""
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purse(), await purse()
        wishes = [
            wish("deposit", "a", alice, "50.00"),
            wish("transfer", "b", alice, "20.00", bob),
            wish("withdraw", "c", bob, "5.00"),
        ]
        orders: tuple[Order, ...] = (
            alice.deposit("50.00", "a"),
            alice.send("20.00", bob, "b"),
            bob.withdraw("5.00", "c"),
        )
        for each, order in zip(wishes, orders, strict=True):
            await bank.perform(order)
            each.told(201, {"id": str(order.id)})
        bulk = wish("bulk", "e", alice, "7.00", bob)
        bulk.asks.append(Ask(amount=Decimal("999.00"), receiver=holder(bob)))
        made, refused = await bank.perform_all(alice.send_all([("7.00", bob), ("999.00", bob)], "e"))
        assert isinstance(made, Receipt)
        assert made.transaction
        assert isinstance(refused, Refusal)
        items = [
            {"status": 201, "transaction": {"id": str(made.transaction.id)}},
            {"status": 400, "problem": {"code": refused.code}},
        ]
        bulk.told(207, {"transfers": items})
    turned_down = wish("withdraw", "d", bob, "500.00")
    turned_down.told(400, {"code": "insufficient_funds"})
    due = {row["id"]: row["fee_due_at"] for row in await Wallet.select(Wallet.id, Wallet.fee_due_at)}
    return [*wishes, turned_down, bulk], [holder(alice), holder(bob)], due


def invent(wishes: list[Wish]) -> None:
    never = wish("deposit", "never", purse_of(wishes[0]), "1.00")
    never.told(201, {"id": str(uuid4())})
    wishes.append(never)


def deny(wishes: list[Wish]) -> None:
    wishes[0].state, wishes[0].made = "refused", {}


def forget(wishes: list[Wish]) -> None:
    del wishes[0]


def forget_one_of_a_bulk(wishes: list[Wish]) -> None:
    wishes[-1].made.clear()


def answer_two_alike(wishes: list[Wish]) -> None:
    wishes[1].made = dict.fromkeys(wishes[0].made, wishes[1].asks[0])


def ask_for_more(wishes: list[Wish]) -> None:
    (id,) = wishes[0].made
    wishes[0].made[id] = Ask(amount=Decimal("50.01"))


def pay_somebody_else(wishes: list[Wish]) -> None:
    ((id, payment),) = wishes[1].made.items()
    wishes[1].made[id] = Ask(amount=payment.amount, receiver=wishes[1].holder)


def leave_without_an_answer(wishes: list[Wish]) -> None:
    wishes[0].state = "unanswered"


LIES: dict[str, tuple[Callable[[list[Wish]], None], str]] = {
    "lost": (invent, "lost"),
    "happened though refused": (deny, "doubled"),
    "happened though nobody asked": (forget, "doubled"),
    "one of many happened though nobody was told": (forget_one_of_a_bulk, "doubled"),
    "one movement for two": (answer_two_alike, "doubled"),
    "another amount": (ask_for_more, "other"),
    "another receiver": (pay_somebody_else, "other"),
    "no answer": (leave_without_an_answer, "other"),
}


async def test_the_truth_holds(database: str, redis_url: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    assert await judge(wishes, [], holders, due) == Verdict()
    assert await already_there(wishes) == {"a", "b", "c", "e"}


@pytest.mark.parametrize("lie", LIES)
async def test_each_lie_is_found(database: str, redis_url: str, lie: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    tell, kind = LIES[lie]
    tell(wishes)
    verdict = await judge(wishes, [], holders, due)
    assert not verdict.holds
    assert getattr(verdict, kind)


def act(kind: ActKind, wishes: list[Wish], **asked: Any) -> Act:
    return Act(kind=kind, reference=f"staff-{uuid4()}", wallet=wishes[0].holder, sent=1, **asked)


async def undo(wishes: list[Wish], redis_url: str, *, index: int) -> Act:
    """Reverse what a wish became; what staff were told of it."""
    (id,) = wishes[index].made
    order = Reverse(id=new_id(), staff=StaffMember(1, "proof"), transaction_id=id, reason="a proof")
    async with banks(1, redis_url) as (bank,):
        receipt = await bank.perform(order)
    assert receipt.transaction
    reversal = act("reverse", wishes, transaction_id=id)
    reversal.told(200, f"Reversed by transaction {receipt.transaction.id}.")
    return reversal


async def test_what_staff_were_told_is_judged_too(database: str, redis_url: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    reversal = await undo(wishes, redis_url, index=1)
    assert await judge(wishes, [reversal], holders, due) == Verdict()
    assert (await judge(wishes, [], holders, due)).doubled
    again = act("reverse", wishes, transaction_id=reversal.transaction_id)
    again.told(422, "The transaction can't be reversed. It has been reversed already.")
    assert await judge(wishes, [reversal, again], holders, due) == Verdict()
    assert (await judge(wishes, [again], holders, due)).doubled  # it was never in doubt, so who did it?
    again.broken = 1
    assert await judge(wishes, [again], holders, due) == Verdict()
    again.transaction_id = next(iter(wishes[0].made))
    assert (await judge(wishes, [reversal, again], holders, due)).lost
    invented = act("adjust", wishes, amount=Decimal("-3.00"))
    invented.told(200, f"The balance was then 1.00. Transaction {uuid4()}.")
    assert (await judge(wishes, [reversal, invented], holders, due)).lost


async def test_what_has_happened_before_anyone_was_told_must_be_in_doubt_and_once(
    database: str, redis_url: str
) -> None:
    wishes, _, _ = await true_story(redis_url)
    assert await judge_doubts(wishes, []) == Verdict()
    deposit = wishes[0]
    deposit.state, deposit.made = "unanswered", {}
    assert (await judge_doubts(wishes, [])).doubled  # put off with "nothing has happened"
    deposit.broken = 1
    assert await judge_doubts(wishes, []) == Verdict()
    async with banks(1, redis_url) as (bank,):  # the same again, under another key
        await bank.perform(purse_of(deposit).deposit("50.00", "z"))
    assert len((await judge_doubts(wishes, [])).doubled) == 1
    reversal = await undo(wishes, redis_url, index=2)
    assert len((await judge_doubts(wishes, [reversal])).doubled) == 1
    reversal.state, reversal.made = "unanswered", None
    assert len((await judge_doubts(wishes, [reversal])).doubled) == 2
    reversal.broken = 1
    assert len((await judge_doubts(wishes, [reversal])).doubled) == 1


async def test_a_day_of_a_fee_that_has_moved_by_less_than_a_period_is_found(database: str, redis_url: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    due[holders[0].wallet_id] -= timedelta(days=1)
    assert (await judge(wishes, [], holders, due)).other
