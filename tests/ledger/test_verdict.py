"""What `wallet prove` would find, if there were something to find."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from actors.orders import Order, Receipt
from actors.refusals import Refusal
from app.proof.verdict import Verdict, already_there, judge
from app.proof.wishes import Holder, Kind, Payment, Wish
from db.tables import Wallet
from tests.ledger.people import Purse, banks, purse


def holder(of: Purse) -> Holder:
    return Holder(wallet_id=of.id, number=of.number, currency="KZT", user_id=of.owner, token="")


def purse_of(wish: Wish) -> Purse:
    return Purse(id=wish.holder.wallet_id, owner=wish.holder.user_id, number=wish.holder.number)


def wish(kind: Kind, key: str, of: Purse, amount: str, to: Purse | None = None) -> Wish:
    payment = Payment(amount=Decimal(amount), receiver=holder(to) if to else None)
    return Wish(kind=kind, key=key, holder=holder(of), payments=[payment])


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
        bulk.payments.append(Payment(amount=Decimal("999.00"), receiver=holder(bob)))
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
    wishes[1].made = dict.fromkeys(wishes[0].made, wishes[1].payments[0])


def ask_for_more(wishes: list[Wish]) -> None:
    (id,) = wishes[0].made
    wishes[0].made[id] = Payment(amount=Decimal("50.01"))


def pay_somebody_else(wishes: list[Wish]) -> None:
    ((id, payment),) = wishes[1].made.items()
    wishes[1].made[id] = Payment(amount=payment.amount, receiver=wishes[1].holder)


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
    assert await judge(wishes, holders, due) == Verdict()
    assert await already_there(wishes) == {"a", "b", "c", "e"}


@pytest.mark.parametrize("lie", LIES)
async def test_each_lie_is_found(database: str, redis_url: str, lie: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    tell, kind = LIES[lie]
    tell(wishes)
    verdict = await judge(wishes, holders, due)
    assert not verdict.holds
    assert getattr(verdict, kind)


async def test_a_day_of_a_fee_that_has_moved_by_less_than_a_period_is_found(database: str, redis_url: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    due[holders[0].wallet_id] -= timedelta(days=1)
    assert (await judge(wishes, holders, due)).other
