"""
What each order does to a book. Pure: no await, no database, no clock.

A rule refuses first, flat; then it must succeed. So a refusal leaves the book as it was.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from actors.book import DEPOSIT, TRANSFER, WITHDRAW, Book, UsedKey
from actors.corrections import adjust, freeze, reverse, unfreeze
from actors.fees import charge_fee, settle_fee_if_blocked
from actors.money import AMOUNT_MAX
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
from actors.refusals import (
    BalanceLimit,
    IdempotencyKeyReused,
    InsufficientFunds,
    SameWallet,
    WalletBlocked,
    WalletFrozen,
)


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


def deposit(order: Deposit, book: Book) -> Receipt:
    """Credit a wallet with money from outside, and take an overdue fee if that unblocks it."""
    wallet = book.owned(order.wallet_id, order.caller_id)
    if wallet.frozen_at:
        raise WalletFrozen()
    if wallet.amount + order.amount > AMOUNT_MAX:
        raise BalanceLimit()
    # Nothing below may refuse.
    transaction = book.post(order.id, DEPOSIT, receiver=wallet, amount=order.amount)
    receipt = book.receipt(transaction, wallet.amount)
    settle_fee_if_blocked(wallet, book)
    return receipt


def withdraw(order: Withdraw, book: Book) -> Receipt:
    """Debit a wallet for money that leaves."""
    wallet = book.owned(order.wallet_id, order.caller_id)
    if wallet.frozen_at:
        raise WalletFrozen()
    if not wallet.is_active:
        raise WalletBlocked()
    if wallet.amount < order.amount:
        raise InsufficientFunds()
    # Nothing below may refuse.
    transaction = book.post(order.id, WITHDRAW, sender=wallet, amount=order.amount)
    return book.receipt(transaction, wallet.amount)


def transfer(order: Transfer, book: Book) -> Receipt:
    """Debit the sender, credit the receiver in its own currency, and take an overdue fee from whom it unblocks."""
    sender, receiver = book.owned(order.wallet_id, order.caller_id), book.numbered(order.receiver_number)
    if sender is receiver:
        raise SameWallet()
    if sender.frozen_at:
        raise WalletFrozen()
    if receiver.frozen_at:
        raise WalletFrozen("The receiving wallet is frozen: no money moves in or out of it until our staff release it.")
    if not sender.is_active:
        raise WalletBlocked()
    if sender.amount < order.amount:
        raise InsufficientFunds()
    received, rate = book.exchange(order.amount, sender.currency, receiver.currency)
    if receiver.amount + received > AMOUNT_MAX:
        raise BalanceLimit()
    # Nothing below may refuse.
    transaction = book.post(
        order.id,
        TRANSFER,
        sender=sender,
        receiver=receiver,
        amount=order.amount,
        received=received,
        rate=rate,
        reference=order.reference,
        sender_balance=sender.amount - order.amount if order.replayable else None,
    )
    settle_fee_if_blocked(receiver, book)
    return book.receipt(transaction, sender.amount)


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
