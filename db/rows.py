"""Plain structs that cross between the ledger and the book. No Piccolo, no I/O."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct, field

# `gc=False`: these hold no containers that could refer back to them, and a batch makes thousands.


class WalletRow(Struct, kw_only=True):
    """A wallet as it was when its row was locked; the book changes it in memory."""

    id: int
    user_id: UUID | None  # None for a system wallet
    number: str
    currency: str
    amount: Decimal
    is_active: bool
    fee_due_at: datetime | None
    frozen_at: datetime | None = None
    last_entry_at: datetime | None = None  # None where there is none, or none since this is kept


class TransactionRow(Struct, frozen=True, kw_only=True, gc=False):
    """
    One movement, as people see it. `sender_id` and `receiver_id` are wallets; None is the outside world.

    `reverses` is the transaction that this one undoes; `reference` is what the sender says of a transfer.
    `sender_balance` is what it left the sender, where a replay has to tell it: of bulks under a key only.
    """

    id: UUID
    operation_type: str
    amount: Decimal
    amount_currency: str
    received_amount: Decimal
    received_currency: str
    exchange_rate: Decimal | None
    sender_id: int | None
    receiver_id: int | None
    created_at: datetime
    reverses: UUID | None = None
    reference: str | None = None
    sender_balance: Decimal | None = None


class EntryRow(Struct, frozen=True, kw_only=True, gc=False):
    """One leg of a transaction: negative amounts are debits; `balance_after` is None for system wallets."""

    transaction_id: UUID
    wallet_id: int
    amount: Decimal
    balance_after: Decimal | None


class KeyRow(Struct, frozen=True, kw_only=True, gc=False):
    """A used idempotency key: `id` is the digest of user and key, `balance_after` that of the acting wallet."""

    id: UUID
    user_id: UUID
    key: str
    fingerprint: bytes
    transaction_id: UUID
    balance_after: Decimal


class MessageRow(Struct, frozen=True, kw_only=True, gc=False):
    """A message owed to a user because of what the batch did, at the user's own address."""

    event: str
    user_id: UUID
    template: str
    params: dict[str, str]


class StaffActionRow(Struct, frozen=True, kw_only=True, gc=False):
    """What somebody of the staff did, and why. `id` is the order's: where money moved, also its transaction's."""

    id: UUID
    staff_id: int
    staff_name: str
    action: str
    wallet_id: int | None
    transaction_id: UUID | None
    reason: str
    created_at: datetime


class OriginalRow(Struct, kw_only=True):
    """A transaction that is to be reversed."""

    transaction: TransactionRow
    adjusted: bool  # it was an adjustment by staff
    reversed: bool


class Changes(Struct):
    """What a batch has changed, in the order in which it happened: what the ledger has to save."""

    wallets: dict[int, WalletRow] = field(default_factory=dict)
    transactions: list[TransactionRow] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    keys: list[KeyRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    staff_actions: list[StaffActionRow] = field(default_factory=list)
