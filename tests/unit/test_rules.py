"""Single rules as they read in the contract; their every combination is in `test_rules_stateful.py`."""

from copy import deepcopy
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.money import PAYMENT_MAX
from actors.orders import ChargeFee
from actors.refusals import BalanceLimit, WalletNotFound
from actors.rules.apply import apply
from actors.rules.fees import fee_for
from db.clocks import CLOCKS_DIFFER
from db.rows import MessageRow, WalletRow
from tests.unit.books import BOB, NOON, PERIOD, book, deposit, outcome, rates, transfer, wallet, withdraw


def charge(of: WalletRow) -> ChargeFee:
    assert of.fee_due_at
    return ChargeFee(wallet_id=of.id, due_at=of.fee_due_at)


def test_a_blocked_wallet_is_unblocked_by_the_money_that_pays_its_fee() -> None:
    mine = wallet(1001, "150.00", blocked=True, due=NOON - timedelta(days=1))
    page = book(mine)
    receipt = apply(deposit(mine, "60.00"), page)
    assert (mine.amount, mine.is_active) == (Decimal("10.00"), True)
    assert receipt.balance_after == Decimal("210.00"), "the receipt is the deposit's, the fee has a line of its own"
    assert [transaction.operation_type for transaction in page.changes.transactions] == ["DEPOSIT", "FEE"]


def test_a_blocked_wallet_is_unblocked_by_a_transfer_too_in_the_same_book() -> None:
    mine, his = wallet(1001, "1000.00"), wallet(1002, "0.00", owner=BOB, blocked=True, due=NOON - PERIOD)
    apply(transfer(mine, his, "200.00"), book(mine, his))
    assert (his.amount, his.is_active) == (Decimal("0.00"), True)


def test_a_blocked_wallet_receives_but_sends_nothing() -> None:
    mine, his = wallet(1001, "100.00", blocked=True), wallet(1002, "100.00", owner=BOB)
    page = book(mine, his)
    assert outcome(withdraw(mine, "1.00"), page) == "wallet_blocked"
    assert outcome(transfer(mine, his, "1.00"), page) == "wallet_blocked"
    assert outcome(deposit(mine, "1.00"), page) == "done"
    assert outcome(transfer(his, mine, "1.00"), page) == "done"
    assert (mine.amount, mine.is_active) == (Decimal("102.00"), False)


def test_periods_that_passed_while_a_wallet_was_blocked_are_not_charged_and_the_day_is_kept() -> None:
    mine = wallet(1001, "0.00", blocked=True, due=NOON)
    apply(deposit(mine, "1000.00"), book(mine, now=NOON + 3 * PERIOD + timedelta(days=12)))
    assert (mine.amount, mine.fee_due_at) == (Decimal("800.00"), NOON + 4 * PERIOD)


def test_each_overdue_period_of_a_wallet_that_can_pay_is_charged_by_itself() -> None:
    mine = wallet(1001, "1000.00", due=NOON)
    page = book(mine, now=NOON + 2 * PERIOD)
    assert [outcome(charge(mine), page) for _ in range(4)] == ["done", "done", "done", "nothing"]
    assert (mine.amount, mine.fee_due_at) == (Decimal("400.00"), NOON + 3 * PERIOD)


def test_a_wallet_that_can_not_pay_is_blocked_once_and_its_owner_is_told_once() -> None:
    mine = wallet(1001, "199.99", due=NOON)
    page = book(mine)
    assert [outcome(charge(mine), page), outcome(charge(mine), page)] == ["blocked", "blocked"]
    assert (mine.amount, mine.is_active, page.changes.wallets) == (Decimal("199.99"), False, {1001: mine})
    assert page.changes.messages == [
        MessageRow(
            event=f"wallet_blocked:1001:{NOON.isoformat()}",
            user_id=mine.user_id or BOB,
            template="wallet_blocked",
            params={"wallet_number": "0000001001", "amount": "200.00", "currency": "KZT"},
        )
    ]


@pytest.mark.parametrize(("currency", "fee"), [("KZT", "200.00"), ("USD", "0.38"), ("EUR", "0.34")])
def test_the_fee_is_200_tenge_in_the_currency_of_the_wallet(currency: str, fee: str) -> None:
    mine = wallet(1001, "500.00", currency=currency)
    assert fee_for(mine, book(mine, rates=rates(kzt="520", eur="0.9")))[0] == Decimal(fee)


def test_a_fee_is_never_nothing_however_much_tenge_a_dollar_costs() -> None:
    mine = wallet(1001, "0.01", currency="USD", due=NOON)
    assert outcome(charge(mine), book(mine, rates=rates(kzt="1000000"))) == "done"
    assert mine.amount == 0


def test_incoming_money_is_not_turned_away_for_want_of_the_rate_of_a_fee() -> None:
    mine = wallet(1001, "0.00", currency="EUR", blocked=True, due=NOON)
    assert outcome(deposit(mine, "5.00"), book(mine)) == "done"
    assert (mine.amount, mine.is_active) == (Decimal("5.00"), False)


def test_conversions_need_a_rate_that_is_still_believed_and_money_of_one_currency_does_not() -> None:
    mine, euros, his = wallet(1001, "1000.00"), wallet(1002, currency="EUR"), wallet(1003, owner=BOB)
    stale = rates(valid_until=NOON - timedelta(seconds=1))
    lacking = replace(rates(), per_dollar={"USD": Decimal(1), "KZT": Decimal(500)})  # from before there were euros
    for known in (None, stale, lacking):
        page = book(mine, euros, his, rates=known)
        assert outcome(transfer(mine, euros, "100.00"), page) == "rates_unavailable"
        assert outcome(transfer(mine, his, "100.00"), page) == "done"


def test_a_transfer_that_would_arrive_as_nothing_is_refused() -> None:
    mine, euros = wallet(1001, "1000.00"), wallet(1002, currency="EUR")
    assert outcome(transfer(mine, euros, "6.24"), book(mine, euros, rates=rates())) == "amount_too_small"
    assert outcome(transfer(mine, euros, "6.25"), book(mine, euros, rates=rates())) == "done"
    assert euros.amount == Decimal("0.01")


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_wallet_holds_its_limit_and_not_a_cent_more(room: int, arriving: int) -> None:
    mine = wallet(1001, PAYMENT_MAX - Decimal(room).scaleb(-2))
    page = book(mine)
    order = deposit(mine, Decimal(arriving).scaleb(-2))
    if arriving > room:
        with pytest.raises(BalanceLimit):
            apply(order, page)
    else:
        assert apply(order, page).balance_after <= PAYMENT_MAX


def test_nobody_learns_whether_a_wallet_is_missing_or_somebody_elses() -> None:
    his = wallet(1002, "100.00", owner=BOB)
    missing = wallet(4711)
    sentences = set()
    for there in (his, missing):
        with pytest.raises(WalletNotFound) as refused:
            apply(withdraw(there, "1.00", caller=wallet(1).user_id), book(his))
        sentences.add((refused.value.status, refused.value.code, str(refused.value)))
    assert len(sentences) == 1


def test_a_key_belongs_to_its_user_alone() -> None:
    mine, his = wallet(1001), wallet(1002, owner=BOB)
    page = book(mine, his)
    assert outcome(deposit(mine, "1.00", key="k"), page) == "done"
    assert outcome(deposit(his, "2.00", key="k"), page) == "done"
    assert outcome(deposit(mine, "1.00", key="k"), page) == "replayed"
    assert outcome(deposit(mine, "2.00", key="k"), page) == "idempotency_key_reused"
    assert (mine.amount, his.amount) == (Decimal("1.00"), Decimal("2.00"))


def test_a_refusal_is_not_remembered_under_its_key() -> None:
    mine = wallet(1001)
    page = book(mine)
    assert outcome(withdraw(mine, "1.00", key="k"), page) == "insufficient_funds"
    assert outcome(deposit(mine, "1.00"), page) == "done"
    assert outcome(withdraw(mine, "1.00", key="k"), page) == "done"


def test_a_replay_tells_the_balance_of_its_day() -> None:
    mine = wallet(1001)
    page = book(mine)
    first = apply(deposit(mine, "1.00", key="k"), page)
    apply(deposit(mine, "5.00"), page)
    again = apply(deposit(mine, "1.00", key="k"), page)
    assert (again.replayed, again.transaction, again.balance_after) == (True, first.transaction, Decimal("1.00"))


def test_a_transfer_brings_what_one_payment_may_move_and_not_a_cent_more() -> None:
    mine, his = wallet(1001, PAYMENT_MAX, currency="USD"), wallet(1002, PAYMENT_MAX, owner=BOB)
    page = book(mine, his, rates=rates(kzt="500"))
    assert outcome(transfer(mine, his, "2000000000.00"), page) == "amount_too_large"
    assert outcome(transfer(mine, his, "1999999999.99"), page) == "done"
    assert his.amount == PAYMENT_MAX + Decimal("999999999995.00")


def test_a_transfer_keeps_the_rate_it_used_and_its_reference() -> None:
    mine, his = wallet(1001, "1000.00"), wallet(1002, owner=BOB, currency="USD")
    order = replace(transfer(mine, his, "500.00"), reference="Rent")
    made = apply(order, book(mine, his, rates=rates(kzt="500"))).transaction
    assert made
    assert (made.exchange_rate, made.reference, made.created_at) == (Decimal("0.002"), "Rent", NOON)


def test_the_fee_that_incoming_money_pays_keeps_the_rate_it_used() -> None:
    mine = wallet(1001, currency="USD", blocked=True, due=NOON)
    page = book(mine, rates=rates(kzt="500"))
    assert apply(deposit(mine, "1.00"), page).receiver_number == mine.number
    assert [made.exchange_rate for made in page.changes.transactions] == [None, Decimal("0.002")]


def test_a_withdrawal_and_a_fee_name_their_wallet_and_a_fee_the_rate_it_used() -> None:
    mine = wallet(1001, "1000.00", currency="USD", due=NOON)
    page = book(mine, rates=rates(kzt="500"))
    assert apply(withdraw(mine, "1.00"), page).sender_number == mine.number
    fee = apply(ChargeFee(wallet_id=mine.id, due_at=NOON), page)
    assert fee.sender_number == mine.number
    assert fee.transaction
    assert (fee.transaction.amount, fee.transaction.exchange_rate) == (Decimal("0.40"), Decimal("0.002"))


@given(st.lists(st.tuples(st.booleans(), st.integers(-200, 200), st.booleans()), max_size=20))
def test_entries_are_dated_in_their_order_unless_the_clock_goes_back_by_more_than_a_minute(
    steps: list[tuple[bool, int, bool]],
) -> None:
    """Each step is a payment between two wallets, or of one; the clock moves by some seconds, and a new book opens."""
    mine, his = wallet(1001, "1000.00"), wallet(1002, "1000.00", owner=BOB)
    now, dates = NOON, {mine.id: [NOON], his.id: [NOON]}
    mine.last_entry_at = his.last_entry_at = NOON
    for sends, seconds, undone in steps:
        now += timedelta(seconds=seconds)
        page = book(mine, his, now=now)
        if undone:
            before, mark = deepcopy((mine, his, page.changes)), page.mark([mine.id, his.id])
            apply(transfer(his, mine, "1.00"), page)
            page.undo(mark)
            assert (mine, his, page.changes) == before
        apply(transfer(mine, his, "1.00") if sends else deposit(mine, "1.00"), page)
        (made,) = page.changes.transactions
        for each in (mine, his) if sends else (mine,):
            last = dates[each.id][-1]
            assert made.created_at >= last or now < last - CLOCKS_DIFFER
            dates[each.id].append(made.created_at)
            assert each.last_entry_at == made.created_at
        assert now <= made.created_at <= now + CLOCKS_DIFFER
