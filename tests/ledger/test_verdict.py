"""What `wallet prove` would find, if there were something to find."""

from collections.abc import Callable
from copy import copy
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from actors.orders import Order
from app.proof.verdict import Verdict, already_there, judge
from app.proof.wishes import Holder, Wish
from db.tables import Wallet
from tests.ledger.people import Purse, banks, purse


def holder(of: Purse) -> Holder:
    return Holder(wallet_id=of.id, number=of.number, currency="KZT", user_id=of.owner, token="")


async def true_story(redis_url: str) -> tuple[list[Wish], list[Holder], dict[int, Any]]:
    """Three payments that happened, and one that was refused, told as they were."""
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purse(), await purse()
        wishes = [
            Wish(kind="deposit", key="a", holder=holder(alice), amount=Decimal("50.00")),
            Wish(kind="transfer", key="b", holder=holder(alice), receiver=holder(bob), amount=Decimal("20.00")),
            Wish(kind="withdraw", key="c", holder=holder(bob), amount=Decimal("5.00")),
        ]
        orders: tuple[Order, ...] = (
            alice.deposit("50.00", "a"),
            alice.send("20.00", bob, "b"),
            bob.withdraw("5.00", "c"),
        )
        for wish, order in zip(wishes, orders, strict=True):
            await bank.perform(order)
            wish.told(201, {"id": str(order.id)})
    refused = Wish(kind="withdraw", key="d", holder=holder(bob), amount=Decimal("500.00"))
    refused.told(400, {"code": "insufficient_funds"})
    due = {row["id"]: row["fee_due_at"] for row in await Wallet.select(Wallet.id, Wallet.fee_due_at)}
    return [*wishes, refused], [holder(alice), holder(bob)], due


def invent(wishes: list[Wish]) -> None:
    invented = copy(wishes[0])
    invented.key, invented.transaction_id = "never", uuid4()
    wishes.append(invented)


def deny(wishes: list[Wish]) -> None:
    wishes[0].state = "refused"


def forget(wishes: list[Wish]) -> None:
    del wishes[0]


def answer_two_alike(wishes: list[Wish]) -> None:
    wishes[1].transaction_id = wishes[0].transaction_id


def ask_for_more(wishes: list[Wish]) -> None:
    wishes[0].amount += 1


def pay_somebody_else(wishes: list[Wish]) -> None:
    wishes[1].receiver = wishes[1].holder


def leave_without_an_answer(wishes: list[Wish]) -> None:
    wishes[0].state = "unanswered"


LIES: dict[str, tuple[Callable[[list[Wish]], None], str]] = {
    "lost": (invent, "lost"),
    "happened though refused": (deny, "doubled"),
    "happened though nobody asked": (forget, "doubled"),
    "one movement for two": (answer_two_alike, "doubled"),
    "another amount": (ask_for_more, "other"),
    "another receiver": (pay_somebody_else, "other"),
    "no answer": (leave_without_an_answer, "other"),
}


async def test_the_truth_holds(database: str, redis_url: str) -> None:
    wishes, holders, due = await true_story(redis_url)
    assert await judge(wishes, holders, due) == Verdict()
    assert await already_there(wishes) == {"a", "b", "c"}


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
