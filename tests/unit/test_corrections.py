"""What staff's orders do: single rules first, then any sequence of them amid everybody else's."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from actors.money import PAYMENT_MAX
from actors.orders import Adjust, ChargeFee, Freeze, IdempotencyKey, Order, Reverse, StaffMember, Unfreeze, new_id
from actors.rules.apply import apply
from actors.rules.book import Book
from db.currencies import SYSTEM_WALLET_IDS
from db.rows import OriginalRow, TransactionRow, WalletRow
from tests.unit.books import BOB, NOON, book, deposit, outcome, rates, transfer, wallet, withdraw
from tests.unit.stateful import Books, amounts, cents, money, own_wallets, wallets

AYAN = StaffMember(7, "ayan")
KEY = IdempotencyKey(user_id=UUID(int=7), key="ticket 12")


def adjust(of: WalletRow, amount: str, key: IdempotencyKey | None = None) -> Adjust:
    return Adjust(id=new_id(), staff=AYAN, wallet_id=of.id, amount=Decimal(amount), reason="counted wrong", key=key)


def freeze(of: WalletRow) -> Freeze:
    return Freeze(id=new_id(), staff=AYAN, wallet_id=of.id, reason="stolen phone")


def unfreeze(of: WalletRow) -> Unfreeze:
    return Unfreeze(id=new_id(), staff=AYAN, wallet_id=of.id, reason="found again")


def reverse(id: UUID) -> Reverse:
    return Reverse(id=new_id(), staff=AYAN, transaction_id=id, reason="sent by mistake")


def next_book(page: Book, *, adjusted: bool = False) -> Book:
    """The book of the batch after this one, in which what this one did can be reversed."""
    made = page.changes.transactions
    originals = [OriginalRow(transaction=each, adjusted=adjusted, reversed=False) for each in made]
    return Book(wallets=page.wallets.values(), used_keys=[], rates=page.rates, now=NOON, originals=originals)


def test_a_frozen_wallet_refuses_everything_in_and_out_and_a_deposit_changes_nothing_about_that() -> None:
    mine, his = wallet(1001, "500.00", due=NOON), wallet(1002, "500.00", owner=BOB)
    page = book(mine, his)
    assert outcome(freeze(mine), page) == "nothing"
    for order in (
        deposit(mine, "1.00"),
        withdraw(mine, "1.00"),
        transfer(mine, his, "1.00"),
    ):
        assert outcome(order, page) == "wallet_frozen"
    assert outcome(transfer(his, mine, "1.00"), page) == "receiver_unavailable"
    assert outcome(ChargeFee(wallet_id=mine.id, due_at=NOON), page) == "wallet_frozen"
    assert outcome(deposit(mine, "1.00"), page) == "wallet_frozen"
    assert (mine.amount, mine.is_active, mine.frozen_at) == (Decimal("500.00"), True, NOON)
    assert outcome(unfreeze(mine), page) == "nothing"
    assert outcome(withdraw(mine, "1.00"), page) == "done"
    assert [(action.action, action.staff_name, action.reason) for action in page.changes.staff_actions] == [
        ("FREEZE", "ayan", "stolen phone"),
        ("UNFREEZE", "ayan", "found again"),
    ]


def test_a_freeze_is_another_state_than_the_fees_block() -> None:
    mine = wallet(1001, "0.00", blocked=True, due=NOON)
    page = book(mine)
    apply(freeze(mine), page)
    apply(adjust(mine, "300.00"), page)
    assert (mine.is_active, mine.amount) == (False, Decimal("300.00")), "no fee is taken from a frozen wallet"
    apply(unfreeze(mine), page)
    assert (mine.is_active, mine.amount) == (True, Decimal("100.00")), "the fee it owed is paid when it is free again"


def test_freezing_twice_is_logged_once_and_says_so() -> None:
    mine = wallet(1001)
    page = book(mine)
    assert [apply(order, page).unchanged for order in (freeze(mine), freeze(mine), unfreeze(mine), unfreeze(mine))] == [
        False,
        True,
        False,
        True,
    ]
    assert len(page.changes.staff_actions) == 2


def test_an_adjustment_is_a_deposit_or_withdrawal_against_the_adjustments_and_happens_once_under_its_key() -> None:
    mine = wallet(1001, "10.00")
    page = book(mine)
    assert outcome(adjust(mine, "5.00", KEY), page) == "done"
    assert outcome(adjust(mine, "5.00", KEY), page) == "replayed"
    assert outcome(adjust(mine, "6.00", KEY), page) == "idempotency_key_reused"
    assert outcome(adjust(mine, "-15.01"), page) == "insufficient_funds"
    assert outcome(adjust(mine, "-15.00"), page) == "done"
    assert [made.operation_type for made in page.changes.transactions] == ["DEPOSIT", "WITHDRAW"]
    contra = SYSTEM_WALLET_IDS["adjustments", "KZT"]
    assert [entry.amount for entry in page.changes.entries if entry.wallet_id == contra] == [-5, 15]


@pytest.mark.parametrize("currency", ["KZT", "USD"])
def test_a_reversed_transfer_gives_both_sides_what_they_had_whatever_the_rate_is_now(currency: str) -> None:
    mine, his = wallet(1001, "1000.00"), wallet(1002, "3.00", owner=BOB, currency=currency)
    page = book(mine, his, rates=rates(kzt="499"))
    sent = apply(transfer(mine, his, "777.77"), page).transaction
    assert sent
    page = next_book(page)
    page.rates = None
    back = apply(reverse(sent.id), page).transaction
    assert back
    assert (mine.amount, his.amount) == (Decimal("1000.00"), Decimal("3.00"))
    assert (back.reverses, back.operation_type) == (sent.id, "TRANSFER")
    assert (back.exchange_rate is None) == (currency == "KZT")
    assert outcome(reverse(sent.id), page) == "not_reversible"


def test_the_log_and_the_receipts_name_who_did_what_to_whom() -> None:
    mine, his = wallet(1001, "100.00"), wallet(1002, "100.00", owner=BOB)
    page = book(mine, his)
    sent = apply(transfer(mine, his, "60.00"), page).transaction
    assert sent
    page = next_book(page)
    orders: list[Order] = [adjust(mine, "5.00"), adjust(mine, "-5.00"), reverse(sent.id), freeze(mine), unfreeze(mine)]
    came_to = [apply(order, page) for order in orders]
    assert [(receipt.sender_number, receipt.receiver_number) for receipt in came_to] == [
        (None, mine.number),
        (mine.number, None),
        (his.number, mine.number),
        (None, None),
        (None, None),
    ]
    moved = [receipt.transaction.id if receipt.transaction else None for receipt in came_to]
    assert [each.transaction_id for each in page.changes.staff_actions] == moved
    assert [each.wallet_id for each in page.changes.staff_actions] == [mine.id, mine.id, his.id, mine.id, mine.id]
    assert {(each.staff_id, each.created_at) for each in page.changes.staff_actions} == {(AYAN.id, NOON)}


def test_an_adjustment_fills_a_wallet_to_its_limit_and_not_a_cent_further() -> None:
    mine = wallet(1001, "1.00")
    page = book(mine)
    assert outcome(adjust(mine, str(PAYMENT_MAX - Decimal("0.99"))), page) == "balance_limit"
    assert outcome(adjust(mine, str(PAYMENT_MAX - Decimal("1.00"))), page) == "done"
    assert mine.amount == PAYMENT_MAX


def test_from_a_wallet_that_has_received_more_than_that_staff_can_take_some() -> None:
    mine, his = wallet(1001, PAYMENT_MAX), wallet(1002, PAYMENT_MAX, owner=BOB)
    page = book(mine, his)
    assert outcome(transfer(his, mine, PAYMENT_MAX), page) == "done"
    assert outcome(adjust(mine, "0.01"), page) == "balance_limit"
    assert outcome(adjust(mine, "-0.01"), page) == "done"
    assert mine.amount == 2 * PAYMENT_MAX - Decimal("0.01")


def test_the_smallest_adjustment_unblocks_a_wallet_that_lacked_only_that() -> None:
    mine = wallet(1001, "199.99", blocked=True, due=NOON)
    assert outcome(adjust(mine, "0.01"), book(mine)) == "done"
    assert (mine.is_active, mine.amount) == (True, Decimal("0.00"))


def test_what_can_not_be_reversed() -> None:
    mine, his = wallet(1001, "100.00"), wallet(1002, "0.00", owner=BOB)
    page = book(mine, his)
    sent = apply(transfer(mine, his, "60.00"), page).transaction
    assert sent
    page = next_book(page)
    apply(withdraw(his, "0.01"), page)
    with pytest.raises(Exception, match=r"wallet 0000001002 holds 59[.]99 KZT, and 60[.]00 would"):
        apply(reverse(sent.id), page)
    apply(deposit(his, "0.01"), page)
    back = apply(reverse(sent.id), page).transaction
    assert back
    assert outcome(reverse(back.id), next_book(page)) == "not_reversible"
    assert outcome(reverse(new_id()), page) == "transaction_not_found"


def test_what_comes_back_to_a_sender_may_bring_the_wallet_beyond_what_deposits_may() -> None:
    mine, his = wallet(1001, "1000.00"), wallet(1002, owner=BOB, currency="USD")
    page = book(mine, his, rates=rates())
    sent = apply(transfer(mine, his, "1000.00"), page).transaction
    assert sent
    apply(deposit(mine, PAYMENT_MAX - Decimal("999.99")), page)
    page = next_book(page)
    assert outcome(reverse(sent.id), page) == "done"
    assert mine.amount == PAYMENT_MAX + Decimal("0.01")


def test_a_reversed_fee_adjustment_and_deposit_come_from_where_they_went() -> None:
    mine = wallet(1001, "1000.00", due=NOON)
    for order, adjusted, system in (
        (ChargeFee(wallet_id=mine.id, due_at=NOON), False, "fees"),
        (adjust(mine, "5.00"), True, "adjustments"),
        (adjust(mine, "-5.00"), True, "adjustments"),
        (deposit(mine, "5.00"), False, "cash"),
        (withdraw(mine, "5.00"), False, "cash"),
    ):
        page = book(mine)
        before = mine.amount
        made = apply(order, page).transaction
        assert made
        page = next_book(page, adjusted=adjusted)
        apply(reverse(made.id), page)
        assert mine.amount == before
        assert SYSTEM_WALLET_IDS[system, "KZT"] in {entry.wallet_id for entry in page.changes.entries}


class StaffBooks(Books):
    """Staff at work amid everybody else's orders."""

    @rule(id=wallets, amount=amounts, debit=st.booleans())
    def adjust(self, id: int, amount: int, debit: bool) -> None:
        amount = -amount if debit else amount
        order = Adjust(id=new_id(), staff=AYAN, wallet_id=id, amount=money(amount), reason="r")
        self._compare(order, lambda: self.naive.adjust(id, amount))

    @rule(id=own_wallets, cents=st.integers(-1, 1))
    def empty(self, id: int, cents: int) -> None:
        """To the cent, and a cent more."""
        amount = -self.naive.accounts[id].cents + cents
        if amount:
            order = Adjust(id=new_id(), staff=AYAN, wallet_id=id, amount=money(amount), reason="r")
            self._compare(order, lambda: self.naive.adjust(id, amount))

    @rule(id=wallets, frozen=st.sampled_from([True, False, False]))
    def freeze(self, id: int, frozen: bool) -> None:
        order: Order = (Freeze if frozen else Unfreeze)(id=new_id(), staff=AYAN, wallet_id=id, reason="r")
        self._compare(order, lambda: self.naive.freeze(id, frozen))

    @precondition(lambda self: self.naive.history)
    @rule(back=st.one_of(st.integers(0, 3), st.integers(0)), twice=st.booleans())
    def reverse(self, back: int, twice: bool) -> None:
        """Mostly one of the last movements; at once again, in the same book."""
        self._save()
        self.book = self._open_book()
        place = len(self.transactions) - 1 - back % len(self.transactions)
        for _ in range(1 + twice):
            order = Reverse(id=new_id(), staff=AYAN, transaction_id=self.transactions[place].id, reason="r")
            self._compare(order, lambda: self.naive.reverse(place))

    @invariant()
    def what_was_adjusted_is_in_the_adjustments(self) -> None:
        actions = self.staff_actions + self.book.changes.staff_actions
        adjusted = {action.transaction_id for action in actions if action.action == "ADJUST"}
        transactions = self.transactions + self.book.changes.transactions
        theirs = {made.id for made in transactions if made.id in adjusted or made.reverses in adjusted}
        contra = {id for (system, _), id in SYSTEM_WALLET_IDS.items() if system == "adjustments"}
        entries = self.entries + self.book.changes.entries
        assert {entry.transaction_id for entry in entries if entry.wallet_id in contra} == theirs

    @invariant()
    def every_reversal_is_a_mirror_and_logged(self) -> None:
        actions = {action.id: action for action in self.staff_actions + self.book.changes.staff_actions}
        transactions = {made.id: made for made in self.transactions + self.book.changes.transactions}
        reversals = [made for made in transactions.values() if made.reverses]
        assert len({made.reverses for made in reversals}) == len(reversals)
        for back in reversals:
            assert back.reverses
            assert mirrored(back) == told(transactions[back.reverses])
            assert actions[back.id].action == "REVERSE"


def told(made: TransactionRow) -> Any:
    return made.sender_id, made.receiver_id, cents(made.amount), cents(made.received_amount)


def mirrored(made: TransactionRow) -> Any:
    return made.receiver_id, made.sender_id, cents(made.received_amount), cents(made.amount)


TestStaffBooks = StaffBooks.TestCase
TestStaffBooks.settings = settings(max_examples=40, stateful_step_count=60)
