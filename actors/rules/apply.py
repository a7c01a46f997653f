"""Carries out one order: its rule, once for each idempotency key. Pure: no await, no database, no clock."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from actors.orders import (
    Adjust,
    ChargeFee,
    Deposit,
    Freeze,
    IdempotencyKey,
    Order,
    Receipt,
    Reverse,
    Transfer,
    Unfreeze,
    Withdraw,
)
from actors.refusals import IdempotencyKeyReused
from actors.rules.book import Book, UsedKey
from actors.rules.corrections import adjust, freeze, reverse, unfreeze
from actors.rules.fees import charge_fee
from actors.rules.payments import deposit, transfer, withdraw


def apply(order: Order, book: Book) -> Receipt:
    """
    Carry out one order, or answer again what its idempotency key has been answered already.

    Raises:
        Refusal: nothing has changed.
    """
    key: IdempotencyKey | None = getattr(order, "key", None)
    if key and (used := book.used_keys.get(key.id)):
        return replay(order, used, book)
    receipt = _RULES[type(order)](order, book)
    if key and receipt.transaction:
        book.remember(key, fingerprint(order), receipt.transaction, receipt.balance_after)
    return receipt


def replay(order: Order, used: UsedKey, book: Book) -> Receipt:
    """
    Answer again what the key's first order was answered.

    Raises:
        IdempotencyKeyReused: this order is another one.
    """
    if used.row.fingerprint != fingerprint(order):
        raise IdempotencyKeyReused()
    return book.receipt(used.transaction, used.row.balance_after, replayed=True)


def fingerprint(order: Order) -> bytes:
    """A digest of what was asked, whatever its id: two orders with the same one ask the same."""
    asked = [str(getattr(order, name, "")) for name in ("wallet_id", "receiver_number", "amount")]
    digest = sha256(" ".join([type(order).__name__, *asked]).encode())
    reference: str | None = getattr(order, "reference", None)
    if reference is not None:  # without one, the digest is that of the days when there were none
        digest.update(f"\n{reference}".encode())
    return digest.digest()


_RULES: dict[type, Callable[[Any, Book], Receipt]] = {
    Deposit: deposit,
    Withdraw: withdraw,
    Transfer: transfer,
    ChargeFee: charge_fee,
    Adjust: adjust,
    Reverse: reverse,
    Freeze: freeze,
    Unfreeze: unfreeze,
}
