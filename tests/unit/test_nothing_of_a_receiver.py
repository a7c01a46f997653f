"""Whatever a sender tries, payments tell nothing of a receiver's balance, fee block, freeze or erasure."""

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from actors.money import PAYMENT_MAX
from actors.orders import Payment, Receipt, bulk_of
from actors.refusals import BulkRefused, Refusal
from actors.rules.book import Book
from actors.rules.bulk import apply_all
from tests.unit.books import ALICE, BOB, NOON, PERIOD, book, rates, wallet

MINE, HIS, NOBODYS = 1001, 1002, 4711
MOST = int(PAYMENT_MAX.scaleb(2))

cents = st.one_of(st.integers(1, 500_00), st.integers(1, MOST), st.sampled_from([1, MOST - 1, MOST]))


@dataclass(frozen=True)
class Receiver:
    """What nobody else may learn of a wallet."""

    held: Decimal
    blocked: bool = False
    frozen: bool = False


@dataclass(frozen=True)
class Sender:
    """What somebody tries from their own wallet: bulks, each atomic or not; a bulk of one is a transfer."""

    held: Decimal
    blocked: bool
    frozen: bool
    tries: list[tuple[bool, list[tuple[int, Decimal]]]]


amounts = cents.map(lambda count: Decimal(count).scaleb(-2))
balances = st.one_of(st.just(Decimal("0.00")), amounts, amounts.map(lambda amount: amount * 1_000_000))
receivers = st.builds(Receiver, balances, st.booleans())
payments = st.tuples(st.sampled_from([HIS, HIS, NOBODYS, MINE]), amounts)
senders = st.builds(
    Sender,
    held=balances,
    blocked=st.sampled_from([False, False, False, True]),
    frozen=st.sampled_from([False, False, False, True]),
    tries=st.lists(st.tuples(st.booleans(), st.lists(payments, min_size=1, max_size=3)), min_size=1, max_size=4),
)
currencies = st.sampled_from(["KZT", "EUR", "USD"])


def told(sender: Sender, his: str, mine: str, receiver: Receiver | None) -> list[str]:
    """All that the sender is answered, and what is left to them; None is a number that nobody has."""
    page = scene(sender, his, mine, receiver)
    return [_told(page, atomic, wishes) for atomic, wishes in sender.tries] + [str(page.wallets[MINE].amount)]


def scene(sender: Sender, his: str, mine: str, receiver: Receiver | None) -> Book:
    own = wallet(MINE, sender.held, currency=mine, blocked=sender.blocked)
    own.frozen_at = NOON if sender.frozen else None
    if receiver is None:
        return book(own, rates=rates())
    due = NOON - PERIOD if receiver.blocked else NOON + PERIOD
    other = wallet(HIS, receiver.held, owner=BOB, currency=his, blocked=receiver.blocked, due=due)
    other.frozen_at = NOON if receiver.frozen else None
    return book(own, other, rates=rates())


def _told(page: Book, atomic: bool, wishes: list[tuple[int, Decimal]]) -> str:
    order = bulk_of(
        [Payment(receiver_number=f"{to:010}", amount=amount, reference=None) for to, amount in wishes],
        caller_id=ALICE,
        wallet_id=MINE,
        atomic=atomic,
    )
    try:
        return "; ".join(map(_said, apply_all(order, page)))
    except BulkRefused as refusal:
        return f"refused: {refusal.errors}"
    except Refusal as refusal:
        return _said(refusal)


def _said(outcome: Receipt | Refusal) -> str:
    if isinstance(outcome, Refusal):
        return f"{outcome.status} {outcome.code} {outcome.title} {outcome} {outcome.headers}"
    assert outcome.transaction
    made = outcome.transaction
    return f"{made.amount} {made.received_amount} {made.exchange_rate} {outcome.balance_after} {outcome.blocked}"


@given(senders, currencies, currencies, receivers, receivers)
@example(
    Sender(Decimal("2.00"), blocked=False, frozen=False, tries=[(True, [(HIS, Decimal(1)), (NOBODYS, Decimal(1))])]),
    "KZT",
    "KZT",
    Receiver(PAYMENT_MAX),
    Receiver(Decimal("0.00")),
)
def test_two_wallets_that_hold_other_amounts_or_owe_a_fee_are_told_apart_by_nothing(
    sender: Sender, his: str, mine: str, one: Receiver, other: Receiver
) -> None:
    assert told(sender, his, mine, one) == told(sender, his, mine, other)


@given(senders, currencies, currencies, receivers)
def test_who_could_not_pay_does_not_learn_whether_a_wallet_is_frozen_or_there_at_all(
    sender: Sender, his: str, mine: str, receiver: Receiver
) -> None:
    """Of a bulk that is all or nothing it is the whole that has to be paid for."""
    tries = [(True, wishes) for _, wishes in sender.tries if sum(amount for _, amount in wishes) > sender.held]
    poor = Sender(sender.held, sender.blocked, sender.frozen, tries or [(False, [(HIS, sender.held + 1)])])
    frozen = Receiver(receiver.held, receiver.blocked, frozen=True)
    assert told(poor, his, mine, receiver) == told(poor, his, mine, frozen) == told(poor, his, mine, None)


@given(senders, currencies, currencies, receivers, receivers)
def test_of_two_frozen_wallets_nothing_is_told_but_that_they_take_no_money(
    sender: Sender, his: str, mine: str, one: Receiver, other: Receiver
) -> None:
    one, other = Receiver(one.held, one.blocked, frozen=True), Receiver(other.held, other.blocked, frozen=True)
    answers = told(sender, his, mine, one)
    # Not even its currency, by what an amount would be worth in it.
    assert answers == told(sender, "KZT", mine, other) == told(sender, "USD", mine, other)
    assert "frozen" not in "".join(answers) or sender.frozen
