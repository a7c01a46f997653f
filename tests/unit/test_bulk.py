"""A bulk is its transfers, one after another: all of what they come to, or nothing."""

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.money import PAYMENT_MAX
from actors.orders import BULK_MAX, Bulk, IdempotencyKey, Payment, Receipt, bulk_id, bulk_of, place_in
from actors.refusals import BulkRefused, IdempotencyKeyReused, InsufficientFunds, RatesUnavailable, Refusal
from actors.rules.apply import apply
from actors.rules.apply import fingerprint as fingerprint_of_order
from actors.rules.book import Book, UsedKey
from actors.rules.bulk import apply_all, fingerprint
from tests.unit.books import ALICE, BOB, NOON, PERIOD, book, deposit, rates, transfer, wallet

MINE = 1001
KEY = IdempotencyKey(user_id=ALICE, key="k")
# Ordinary ones, one that a fee unblocks, one that is frozen, one that no deposit can fill, the sender, nobody's.
NUMBERS = [f"{id:010}" for id in (1002, 1002, 1003, 1004, 1005, 1006, MINE, 4711)]

Asked = list[tuple[str, Decimal, str | None]]

asked = st.lists(
    st.tuples(
        st.sampled_from(NUMBERS),
        st.one_of(st.integers(1, 300_00), st.sampled_from([1, 199_99, 200_00])).map(lambda cents: money(cents)),
        st.sampled_from([None, None, "Rent"]),
    ),
    min_size=1,
    max_size=12,
)
pages = st.builds(
    lambda *options: page(*options),
    st.sampled_from([0, 100_00, 1000_00, 10**7]),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False, False, False, True]),
)


def money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def page(holding: int, rates_known: bool, blocked: bool, frozen: bool) -> Book:
    """A book in which something has happened already."""
    ice, full = wallet(1005, owner=BOB), wallet(1006, PAYMENT_MAX - 150, owner=BOB)
    ice.frozen_at = NOON
    mine = wallet(MINE, money(holding), blocked=blocked, due=NOON - PERIOD if blocked else NOON + PERIOD)
    mine.frozen_at = NOON if frozen else None
    owing = wallet(1004, owner=BOB, blocked=True, due=NOON - PERIOD)
    found = book(
        *(mine, wallet(1002, owner=BOB), wallet(1003, owner=BOB, currency="EUR"), owing, ice, full),
        rates=rates() if rates_known else None,
    )
    apply(deposit(found.wallets[1002], "5.00"), found)
    return found


def bulk(wishes: Asked, *, atomic: bool = False, key: IdempotencyKey | None = None) -> Bulk:
    payments = [Payment(receiver_number=to, amount=amount, reference=reference) for to, amount, reference in wishes]
    return bulk_of(payments, caller_id=ALICE, wallet_id=MINE, atomic=atomic, key=key)


def asked_of(order: Bulk, on: Book) -> list[Receipt | Refusal] | Refusal:
    """What a bulk comes to, or why the whole is refused."""
    try:
        return apply_all(order, on)
    except Refusal as refusal:
        return refusal


def one_by_one(of: Bulk, on: Book) -> list[Receipt | Refusal]:
    """What the transfers come to that somebody sends one after another."""
    outcomes: list[Receipt | Refusal] = []
    for each in of.transfers:
        try:
            outcomes.append(apply(each, on))
        except Refusal as refusal:
            outcomes.append(refusal)
    return outcomes


def refusals(outcomes: list[Receipt | Refusal]) -> list[tuple[int, Refusal]]:
    return [(place, each) for place, each in enumerate(outcomes) if isinstance(each, Refusal)]


def said(outcomes: list[Receipt | Refusal]) -> list[Any]:
    """Outcomes that can be compared: refusals by their code and sentence."""
    return [(each.code, str(each)) if isinstance(each, Refusal) else each for each in outcomes]


def everything(on: Book) -> Any:
    """All that a book knows of wallets and changes."""
    return deepcopy((on.wallets, on.changes, list(on.changes.wallets), on.used_keys, on.done))


@settings(max_examples=250)
@given(pages, asked)
def test_a_bulk_comes_to_what_its_transfers_come_to_one_after_another(on: Book, wishes: Asked) -> None:
    order, alone = bulk(wishes), deepcopy(on)
    assert said(apply_all(order, on)) == said(one_by_one(order, alone))
    assert everything(on) == everything(alone)


@settings(max_examples=250)
@given(pages, asked)
def test_an_atomic_one_comes_to_the_same_or_to_nothing(on: Book, wishes: Asked) -> None:
    order, alone = bulk(wishes, atomic=True, key=KEY), deepcopy(on)
    # What stands in the way on the sender's side, if all receivers were fine, is told first.
    fine = [(to if to == f"{MINE:010}" else f"{1002:010}", amount, reference) for to, amount, reference in wishes]
    refused = refusals(one_by_one(bulk(fine), deepcopy(on)))
    came_to = one_by_one(order, alone)
    refused = refused or refusals(came_to)
    before = everything(on)
    outcome = asked_of(order, on)
    if isinstance(outcome, list):
        assert not refused
        assert said(outcome) == said(came_to)
        assert (on.wallets, on.changes.entries) == (alone.wallets, alone.changes.entries)
        assert on.changes.transactions == alone.changes.transactions
        assert len(on.changes.keys) == 1
    else:
        assert everything(on) == before
        if isinstance(outcome, BulkRefused):
            assert [place for place, _ in outcome.refused] == [place for place, _ in refused]
            assert said([each for _, each in outcome.refused]) == said([each for _, each in refused])
        else:
            assert {type(each) for _, each in refused} == {type(outcome)} == {RatesUnavailable}
    assert all(on.numbers[row.number] is row is on.wallets[row.id] for row in on.wallets.values())


@settings(max_examples=250)
@given(pages, asked, st.integers(0, 500_00), st.booleans(), st.booleans())
def test_a_repeated_one_answers_again_what_happened_and_tries_what_was_refused(
    on: Book, wishes: Asked, comes_in: int, atomic: bool, saved: bool
) -> None:
    order, again = bulk(wishes, atomic=atomic, key=KEY), bulk(wishes, atomic=atomic, key=KEY)
    first = asked_of(order, on)
    made = {place: each for place, each in enumerate(first) if isinstance(each, Receipt)} if type(first) is list else {}
    if comes_in and not on.wallets[MINE].frozen_at:
        apply(deposit(on.wallets[MINE], money(comes_in)), on)
    if saved:
        on = reopened(on)
    alone, keys, was_used = deepcopy(on), len(on.changes.keys), KEY.id in on.used_keys
    id = order.id if made else again.id
    expected = [
        replace(made[place], replayed=True) if place in made else tried(replace(each, id=place_in(id, place)), alone)
        for place, each in enumerate(again.transfers)
    ]
    outcomes = asked_of(again, on)
    if isinstance(outcomes, Refusal):
        assert atomic
        assert not made
        assert any(isinstance(each, Refusal) for each in expected)
        return
    assert said(outcomes) == said(expected)
    assert on.wallets == alone.wallets
    assert on.changes.transactions == alone.changes.transactions
    assert (KEY.id in on.used_keys) == any(isinstance(each, Receipt) for each in outcomes)
    assert len(on.changes.keys) - keys == (KEY.id in on.used_keys and not was_used), "a key is written once"


def tried(order: Any, on: Book) -> Receipt | Refusal:
    try:
        return apply(order, on)
    except Refusal as refusal:
        return refusal


def reopened(on: Book) -> Book:
    """The book of a later batch, as it is opened for a bulk whose key is used."""
    by_id = {transaction.id: transaction for transaction in on.changes.transactions}
    later = Book(
        wallets=deepcopy(on.wallets).values(),
        used_keys=[UsedKey(row, by_id[row.transaction_id]) for row in on.changes.keys],
        rates=on.rates,
        now=on.now,
    )
    for transaction in by_id.values():
        if transaction.sender_balance is not None:
            later.done[transaction.id] = transaction, transaction.sender_balance
    return later


def test_a_key_that_was_used_for_something_else_is_refused_for_the_whole() -> None:
    on = page(1000_00, rates_known=True, blocked=False, frozen=False)
    wishes: Asked = [(NUMBERS[0], Decimal("1.00"), None), (NUMBERS[0], Decimal("2.00"), "Rent")]
    apply_all(bulk(wishes, key=KEY), on)
    single = transfer(on.wallets[MINE], on.wallets[1002], "1.00", key="k")
    before = everything(on)
    for other in (wishes[:1], wishes[::-1], [wishes[0], (NUMBERS[0], Decimal("2.00"), None)], wishes * 2):
        with pytest.raises(IdempotencyKeyReused):
            apply_all(bulk(other, key=KEY), on)
    for refused in (
        lambda: apply_all(bulk(wishes, atomic=True, key=KEY), on),
        lambda: apply_all(replace(bulk(wishes, key=KEY), wallet_id=1002), on),
        lambda: apply(single, on),
    ):
        with pytest.raises(IdempotencyKeyReused):
            refused()
    assert everything(on) == before
    fresh = page(1000_00, rates_known=True, blocked=False, frozen=False)
    apply(single, fresh)
    with pytest.raises(IdempotencyKeyReused):
        apply_all(bulk([(NUMBERS[0], Decimal("1.00"), None)], key=KEY), fresh)


def test_an_atomic_one_that_is_refused_leaves_the_others_of_its_batch_alone() -> None:
    on = page(100_00, rates_known=False, blocked=False, frozen=False)
    apply_all(bulk([(NUMBERS[0], Decimal("10.00"), None)]), on)
    before = everything(on)
    with pytest.raises(BulkRefused) as refused:
        apply_all(bulk([(NUMBERS[0], Decimal("90.00"), None)] * 2, atomic=True), on)
    assert [(place, type(each)) for place, each in refused.value.refused] == [(1, InsufficientFunds)]
    assert everything(on) == before
    assert len(apply_all(bulk([(NUMBERS[0], Decimal("45.00"), None)] * 2, atomic=True), on)) == 2
    assert (on.wallets[MINE].amount, on.wallets[1002].amount) == (Decimal("0.00"), Decimal("105.00"))


def test_ids_count_from_that_of_the_bulk_and_belong_to_no_other() -> None:
    wishes: Asked = [("1", Decimal(1), None)] * BULK_MAX
    whole = bulk(wishes)
    assert [each.id for each in whole.transfers] == [place_in(whole.id, place) for place in range(BULK_MAX)]
    assert {bulk_id(each.id) for each in whole.transfers} == {whole.id}
    assert {each.id.version for each in whole.transfers} == {7}
    ids = [bulk(wishes[:1]).id for _ in range(10_000)]
    assert len(set(ids)) == len(ids)


@given(asked, asked, st.booleans(), st.booleans(), st.sampled_from([MINE, 1]), st.sampled_from([MINE, 1]))
def test_two_bulks_have_one_fingerprint_exactly_where_they_ask_the_same(
    one: Asked, other: Asked, one_atomic: bool, other_atomic: bool, one_wallet: int, other_wallet: int
) -> None:
    left = replace(bulk(one, atomic=one_atomic), wallet_id=one_wallet)
    right = replace(bulk(other, atomic=other_atomic), wallet_id=other_wallet)
    same = (one, one_atomic, one_wallet) == (other, other_atomic, other_wallet)
    assert (fingerprint(left) == fingerprint(right)) == same
    assert fingerprint(left) == fingerprint(replace(bulk(one, atomic=one_atomic), wallet_id=one_wallet))
    assert fingerprint(left) not in {fingerprint_of_order(each) for each in left.transfers}


def test_a_bulk_of_somebody_elses_wallet_is_not_found() -> None:
    on = page(100_00, rates_known=False, blocked=False, frozen=False)
    order = bulk([(NUMBERS[0], Decimal("1.00"), None)])
    for foreign in (replace(order, caller_id=BOB), replace(order, wallet_id=4711), replace(order, wallet_id=1)):
        with pytest.raises(Refusal) as refused:
            apply_all(foreign, on)
        assert refused.value.code == "wallet_not_found"


def test_a_fingerprint_tells_references_apart_and_is_the_same_in_every_version() -> None:
    def digest(reference: str | None) -> str:
        wishes = [("0000001002", Decimal("1.00"), reference), ("0000001003", Decimal("2.00"), None)]
        return fingerprint(bulk(wishes)).hex()

    assert len({digest(reference) for reference in (None, "Rent", "Lunch")}) == 3
    # Keys outlive a deployment: with another digest, an honest repetition would be refused.
    assert digest("Rent") == "168d1725aba98fbeffd0a7ad45c498fc3cd9be92b2a5214e13723e5695a56a60"
    assert not bulk_of([], caller_id=ALICE, wallet_id=MINE).atomic, "all or none only where it is asked for"


def test_a_bulk_that_is_found_after_a_doubtful_commit_is_answered_as_the_first_time() -> None:
    on = page(1000_00, True, False, False)
    order = bulk([("0000001002", money(100), None), ("0000001003", money(100_00), "Rent")], key=KEY)
    first = asked_of(order, on)
    later = reopened(on)
    assert asked_of(order, later) == first
    assert not later.changes.transactions
