"""What tells orders apart: their ids, their keys, and the fingerprint of what was asked."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import product
from typing import Any, get_args
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields, replace

from actors.orders import (
    Adjust,
    Bulk,
    ChargeFee,
    Deposit,
    IdempotencyKey,
    Order,
    Payment,
    StaffMember,
    Transfer,
    Withdraw,
    fee_id,
    new_id,
    transfer_of,
)
from actors.rules import bulk
from actors.rules.apply import fingerprint

# Wallets and days as they may be for the next few thousand years.
wallet_ids = st.one_of(st.integers(1, 2**62 - 1), st.integers(1000, 1020))
days = st.datetimes(datetime(2020, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 hypothesis adds it
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=8)
users = st.one_of(st.uuids(), st.integers(1, 3).map(lambda number: UUID(int=number)))

# What the sender may say of a transfer. No text of one may be taken for one of another.
SAID = tuple(field.name for field in fields(Payment) if not field.required)
texts = st.sampled_from([None, "1.00", "2.00", "Rent"])

asked = st.one_of(
    st.tuples(
        st.sampled_from([Deposit, Withdraw]), st.integers(1, 20), st.just(""), st.sampled_from(["1.00", "11.00"])
    ),
    st.tuples(
        st.just(Transfer),
        st.integers(1, 20),
        st.sampled_from(["1", "11", "12", "1 1.00"]),
        st.sampled_from(["1.00", "2.00"]),
        *(texts for _ in SAID),
    ),
)


def order(kind: type[Deposit | Withdraw | Transfer], wallet_id: int, number: str, amount: str, *said: Any) -> Order:
    if kind is Transfer:
        return Transfer(
            id=new_id(),
            caller_id=UUID(int=1),
            wallet_id=wallet_id,
            receiver_number=number,
            amount=Decimal(amount),
            **dict(zip(SAID, said, strict=False)),
        )
    return (Deposit if kind is Deposit else Withdraw)(
        id=new_id(), caller_id=UUID(int=1), wallet_id=wallet_id, amount=Decimal(amount)
    )


@given(st.tuples(wallet_ids, days), st.tuples(wallet_ids, days), st.integers(0, 12))
def test_a_fee_has_one_id_for_each_wallet_and_period_whoever_computes_it(
    one: tuple[int, datetime], other: tuple[int, datetime], periods: int
) -> None:
    wallet_id, due_at = one
    elsewhere = due_at.astimezone(datetime.now().astimezone().tzinfo)
    assert ChargeFee(wallet_id=wallet_id, due_at=due_at).id == fee_id(wallet_id, elsewhere)
    if periods and due_at.year < 9990:
        assert fee_id(wallet_id, due_at) != fee_id(wallet_id, due_at + timedelta(days=30) * periods)
    if one[0] != other[0]:
        assert fee_id(*one) != fee_id(*other)
    assert (fee_id(*one).version, fee_id(*one).variant) == (8, RFC_4122)


def test_ids_that_are_computed_are_the_same_in_every_version() -> None:
    """With another one an upgrade would charge a period twice, and an honest repetition would move money again."""
    assert fee_id(1001, datetime(2026, 11, 26, tzinfo=UTC)) == UUID("01a21526-e400-8fee-8000-0000000003e9")
    key = IdempotencyKey(user_id=UUID(int=7), key="rent-november")
    assert key.id == UUID("a43d5026-3091-d0aa-e257-ac5cf21327a9")


def test_new_ids_are_never_the_same_and_sort_by_the_time_they_were_made() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert {id.version for id in ids} == {7}


@given(users, keys, users, keys)
def test_a_key_is_known_by_its_user_and_its_text_together(user: UUID, key: str, other: UUID, text: str) -> None:
    one, two = IdempotencyKey(user_id=user, key=key), IdempotencyKey(user_id=other, key=text)
    assert (one.id == two.id) == ((user, key) == (other, text))


@given(asked, asked)
def test_two_orders_have_one_fingerprint_exactly_where_they_ask_the_same(
    one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    assert (fingerprint(order(*one)) == fingerprint(order(*other))) == (one == other)


def test_no_two_orders_that_ask_for_other_things_have_one_fingerprint() -> None:
    texts = [None, "1.00", "Rent"]
    every: list[tuple[Any, ...]] = [
        *product([Deposit, Withdraw], [1, 11], [""], ["1.00", "11.00"]),
        *product([Transfer], [1, 11], ["1", "11", "1 1.00"], ["1.00", "11.00"], *(texts for _ in SAID)),
    ]
    assert len({fingerprint(order(*each)) for each in every}) == len(every)
    alone = [order(*each) for each in every if each[:2] == (Transfer, 1)]
    assert len({bulk.fingerprint(made(Bulk, transfers=(each,))) for each in alone}) == len(alone)


def test_a_transfer_without_a_reference_has_the_fingerprint_of_the_days_when_there_were_none() -> None:
    plain = order(Transfer, 1001, "4000000000", "12.50")
    assert fingerprint(plain) == sha256(b"Transfer 1001 4000000000 12.50").digest()
    # Keys outlive a deployment: with another digest, an honest repetition would be refused.
    for reference in ("1.00", "Rent"):
        named = order(Transfer, 1001, "4000000000", "12.50", reference)
        assert fingerprint(named) == sha256(f"Transfer 1001 4000000000 12.50\n{reference}".encode()).digest()
    assert fingerprint(order(Deposit, 1001, "", "12.50")) == sha256(b"Deposit 1001  12.50").digest()


# Two values of each kind of field, so that an order can be made in which any one of them is another.
_VALUES: dict[Any, tuple[Any, Any]] = {
    UUID: (UUID(int=1), UUID(int=2)),
    int: (1001, 1002),
    str: ("4000000000", "4000000001"),
    Decimal: (Decimal("1.00"), Decimal("2.00")),
    bool: (False, True),
    StaffMember: (StaffMember(1, "ayan"), StaffMember(2, "vera")),
    IdempotencyKey: (IdempotencyKey(user_id=UUID(int=1), key="a"), IdempotencyKey(user_id=UUID(int=1), key="b")),
}
# Whose order it is stands in the key itself, also for staff. They may word the reason of an adjustment anew.
_NOT_ASKED = {"id", "caller_id", "key", "replayable"}
_OF_STAFF = {"staff", "reason"}


def values(kind: Any) -> tuple[Any, Any]:
    return next(found for each in (kind, *get_args(kind)) if (found := _VALUES.get(each)))


def made(kind: type[Struct], **instead: Any) -> Any:
    return kind(
        **({field.name: values(field.type)[0] for field in fields(kind) if field.name not in instead} | instead)
    )


def changed(kind: type[Struct]) -> list[tuple[str, Any]]:
    """An order of this kind in which one field is another, for each field that is asked for."""
    left_out = _NOT_ASKED | (_OF_STAFF if kind is Adjust else set())
    return [
        (field.name, replace(made(kind), **{field.name: values(field.type)[1]}))
        for field in fields(kind)
        if field.name not in left_out
    ]


@pytest.mark.parametrize("kind", [kind for kind in get_args(Order) if "key" in kind.__struct_fields__])
def test_every_field_that_is_asked_for_makes_another_fingerprint(kind: type[Struct]) -> None:
    assert {Deposit, Withdraw, Transfer, Adjust} == {
        each for each in get_args(Order) if "key" in each.__struct_fields__
    }
    for name, other in changed(kind):
        assert fingerprint(other) != fingerprint(made(kind)), name
    for name in _NOT_ASKED & set(kind.__struct_fields__):
        other = replace(made(kind), **{name: values({field.name: field for field in fields(kind)}[name].type)[1]})
        assert fingerprint(other) == fingerprint(made(kind)), name


def test_every_field_of_a_bulk_and_of_its_transfers_makes_another_fingerprint() -> None:
    first = made(Transfer)

    def of(**instead: Any) -> Bulk:
        return made(Bulk, **{"transfers": (first, first)} | instead)  # type: ignore[no-any-return]

    one = bulk.fingerprint(of())
    others = [(field.name, values(field.type)[1]) for field in fields(Bulk) if field.name != "transfers"]
    for name, value in others:
        same = bulk.fingerprint(of(**{name: value})) == one
        assert same == (name in _NOT_ASKED), name
    # The sender is that of the whole.
    for name, other in [each for each in changed(Transfer) if each[0] != "wallet_id"]:
        for transfers in ((other, first), (first, other)):
            assert bulk.fingerprint(of(transfers=transfers)) != one, name


def test_a_transfer_has_every_field_of_the_payment_that_it_makes() -> None:
    payment = made(Payment)
    transfer = transfer_of(payment, id=new_id(), caller_id=UUID(int=1), wallet_id=1001)
    assert {name: getattr(transfer, name) for name in Payment.__struct_fields__} == {
        name: getattr(payment, name) for name in Payment.__struct_fields__
    }


def test_adjustments_and_bulks_have_the_fingerprints_that_they_always_had() -> None:
    assert fingerprint(made(Adjust)) == sha256(b"Adjust 1001  1.00").digest()
    first = made(Transfer, **dict.fromkeys({*SAID} - {"reference"}))
    pair = (first, replace(first, reference=None))
    asked = b"Bulk 1001 False\n4000000000\x1f1.00\x1f4000000000\n4000000000\x1f1.00\x1f"
    assert bulk.fingerprint(made(Bulk, transfers=pair)) == sha256(asked).digest()
