"""What can be asked of the bank, and what it answers. Frozen and whole: an order needs nothing but a book."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from uuid import UUID

from msgspec import Struct
from uuid_utils.compat import uuid7

from db.rows import TransactionRow

BULK_MAX = 1_000
"""Transfers in one bulk."""
_PLACES = 0x3FF  # the bits of a bulk's id that count its transfers: 10 of the 62 that are random in a UUIDv7


class IdempotencyKey(Struct, frozen=True, kw_only=True, dict=True):  # `dict`: where the cached property is kept
    """A client's promise that requests under this key are one request."""

    user_id: UUID
    key: str

    @cached_property
    def id(self) -> UUID:
        """The digest under which the key is stored: one index finds it, whoever's it is."""
        return UUID(bytes=sha256(self.user_id.bytes + self.key.encode()).digest()[:16])


class Deposit(Struct, frozen=True, kw_only=True):
    """Money from outside into a wallet of the caller's."""

    id: UUID
    caller_id: UUID
    wallet_id: int
    amount: Decimal
    key: IdempotencyKey | None = None


class Withdraw(Struct, frozen=True, kw_only=True):
    """Money out of a wallet of the caller's."""

    id: UUID
    caller_id: UUID
    wallet_id: int
    amount: Decimal
    key: IdempotencyKey | None = None


class Payment(Struct, frozen=True, kw_only=True):
    """What a sender says of one transfer, alone or in a bulk."""

    receiver_number: str
    amount: Decimal  # in the sender's currency, two decimals, positive
    reference: str | None = None  # what the sender says of it: 1 to 140 characters; both see it


class Transfer(Payment, frozen=True, kw_only=True):
    """Money from a wallet of the caller's to any other wallet."""

    id: UUID  # becomes the transaction's id; chosen before the commit
    caller_id: UUID
    wallet_id: int  # the sender
    key: IdempotencyKey | None = None
    replayable: bool = False  # of a bulk under a key: a replay will ask for the balance that it left


class Bulk(Struct, frozen=True, kw_only=True):
    """
    Transfers from one wallet that arrive together: in order, each for itself or, `atomic`, all or none.

    The id of each is the bulk's `id` and its place, so that the bulk's key needs to remember one of them only.
    """

    id: UUID
    caller_id: UUID
    wallet_id: int  # the sender of all
    transfers: tuple[Transfer, ...]
    atomic: bool = False
    key: IdempotencyKey | None = None  # for the whole; the transfers have none


class ChargeFee(Struct, frozen=True, kw_only=True):
    """The monthly fee of one wallet for the period that ended at `due_at`. Asking twice charges once."""

    wallet_id: int
    due_at: datetime

    @property
    def id(self) -> UUID:
        return fee_id(self.wallet_id, self.due_at)


class StaffMember(Struct, frozen=True):
    """Who of the staff asks: kept with the reason in their log."""

    id: int
    name: str


class Adjust(Struct, frozen=True, kw_only=True):
    """A balance put right by staff, against the system wallet for adjustments."""

    id: UUID
    staff: StaffMember
    wallet_id: int
    amount: Decimal  # in the wallet's currency, two decimals: positive is a credit, negative a debit
    reason: str
    key: IdempotencyKey | None = None


class Reverse(Struct, frozen=True, kw_only=True):
    """A transaction undone by staff: the same money back, by a new transaction that points at the first."""

    id: UUID
    staff: StaffMember
    transaction_id: UUID
    reason: str


class Freeze(Struct, frozen=True, kw_only=True):
    """No money in or out of a wallet until staff say otherwise."""

    id: UUID
    staff: StaffMember
    wallet_id: int
    reason: str


class Unfreeze(Struct, frozen=True, kw_only=True):
    """The end of a freeze."""

    id: UUID
    staff: StaffMember
    wallet_id: int
    reason: str


Order = Deposit | Withdraw | Transfer | ChargeFee | Adjust | Reverse | Freeze | Unfreeze


class Receipt(Struct, frozen=True, kw_only=True):
    """
    What an order did.

    `transaction` is None where no money moved: a fee that was not due any more, or could not be paid and blocked the
    wallet; a freeze and its end. `balance_after` is that of the acting wallet right after the transaction.
    """

    transaction: TransactionRow | None
    balance_after: Decimal
    sender_number: str | None = None
    receiver_number: str | None = None
    blocked: bool = False  # a fee that could not be paid
    unchanged: bool = False  # a freeze of a frozen wallet, or the end of a freeze that was none
    replayed: bool = False


def new_id() -> UUID:
    """An id for an order and its transaction: UUIDv7, so that new rows land at the end of their index."""
    return uuid7()


def transfer_of(
    payment: Payment,
    *,
    id: UUID,
    caller_id: UUID,
    wallet_id: int,
    key: IdempotencyKey | None = None,
    replayable: bool = False,
) -> Transfer:
    """The order that makes this payment. Each field by its name: to copy a struct's fields takes four times as long."""
    return Transfer(
        id=id,
        caller_id=caller_id,
        wallet_id=wallet_id,
        receiver_number=payment.receiver_number,
        amount=payment.amount,
        reference=payment.reference,
        key=key,
        replayable=replayable,
    )


def bulk_of(
    payments: Iterable[Payment],
    *,
    caller_id: UUID,
    wallet_id: int,
    atomic: bool = False,
    key: IdempotencyKey | None = None,
) -> Bulk:
    """A bulk of at most `BULK_MAX` payments."""
    id, replayable = bulk_id(new_id()), key is not None
    transfers = tuple(
        transfer_of(payment, id=place_in(id, place), caller_id=caller_id, wallet_id=wallet_id, replayable=replayable)
        for place, payment in enumerate(payments)
    )
    return Bulk(id=id, caller_id=caller_id, wallet_id=wallet_id, transfers=transfers, atomic=atomic, key=key)


def bulk_id(id: UUID) -> UUID:
    """The id of the bulk that a transfer with this id belongs to; of any other UUIDv7, one that nobody has."""
    return UUID(int=id.int & ~_PLACES)


def place_in(bulk: UUID, place: int) -> UUID:
    """The id of the transfer at this place of a bulk, from 0."""
    return UUID(int=bulk.int + place)


def fee_id(wallet_id: int, due_at: datetime) -> UUID:
    """
    The id of the transaction that pays a wallet's fee for one period: the same whoever computes it (RFC 9562, UUIDv8).

    So the primary key of `transaction` itself refuses to charge a period twice.
    """
    milliseconds = int(due_at.timestamp() * 1000)
    return UUID(int=(milliseconds & 0xFFFFFFFFFFFF) << 80 | 0x8FEE << 64 | 0b10 << 62 | wallet_id & (1 << 62) - 1)
