"""
What each order does to a book. Pure: no await, no database, no clock.

A rule refuses first, flat; then it must succeed. So a refusal leaves the book as it was.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from actors.book import DEPOSIT, FEE, TRANSFER, WITHDRAW, Book, UsedKey
from actors.money import AMOUNT_MAX, CENT, convert
from actors.orders import ChargeFee, Deposit, IdempotencyKey, Order, Receipt, Transfer, Withdraw, fee_id
from actors.refusals import (
    BalanceLimit,
    IdempotencyKeyReused,
    InsufficientFunds,
    RatesUnavailable,
    SameWallet,
    WalletBlocked,
    WalletNotFound,
)
from db.rows import MessageRow, WalletRow

MONTHLY_FEE = Decimal("200.00")
FEE_CURRENCY = "KZT"
FEE_PERIOD = timedelta(days=30)


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
    if wallet.amount + order.amount > AMOUNT_MAX:
        raise BalanceLimit()
    # Nothing below may refuse.
    transaction = book.post(order.id, DEPOSIT, receiver=wallet, amount=order.amount)
    receipt = Receipt(transaction=transaction, balance_after=wallet.amount, receiver_number=wallet.number)
    settle_fee_if_blocked(wallet, book)
    return receipt


def withdraw(order: Withdraw, book: Book) -> Receipt:
    """Debit a wallet for money that leaves."""
    wallet = book.owned(order.wallet_id, order.caller_id)
    if not wallet.is_active:
        raise WalletBlocked()
    if wallet.amount < order.amount:
        raise InsufficientFunds()
    # Nothing below may refuse.
    transaction = book.post(order.id, WITHDRAW, sender=wallet, amount=order.amount)
    return Receipt(transaction=transaction, balance_after=wallet.amount, sender_number=wallet.number)


def transfer(order: Transfer, book: Book) -> Receipt:
    """Debit the sender, credit the receiver in its own currency, and take an overdue fee from whom it unblocks."""
    sender, receiver = book.owned(order.wallet_id, order.caller_id), book.numbered(order.receiver_number)
    if sender is receiver:
        raise SameWallet()
    if not sender.is_active:
        raise WalletBlocked()
    if sender.amount < order.amount:
        raise InsufficientFunds()
    received, rate = book.exchange(order.amount, sender.currency, receiver.currency)
    if receiver.amount + received > AMOUNT_MAX:
        raise BalanceLimit()
    # Nothing below may refuse.
    transaction = book.post(
        order.id, TRANSFER, sender=sender, receiver=receiver, amount=order.amount, received=received, rate=rate
    )
    settle_fee_if_blocked(receiver, book)
    return Receipt(
        transaction=transaction,
        balance_after=sender.amount,
        sender_number=sender.number,
        receiver_number=receiver.number,
    )


def charge_fee(order: ChargeFee, book: Book) -> Receipt:
    """
    Charge one period's fee, or block the wallet that can't pay it.

    A period that has been charged, or is not over yet, is left alone: asking twice charges once.
    """
    wallet = book.wallets.get(order.wallet_id)
    if wallet is None:
        raise WalletNotFound()
    if wallet.fee_due_at != order.due_at or order.due_at > book.now:
        return Receipt(transaction=None, balance_after=wallet.amount)
    fee, rate = fee_for(wallet, book)
    # Nothing below may refuse.
    if wallet.amount >= fee:
        return pay_fee(wallet, fee, rate, book)
    if wallet.is_active:
        block(wallet, fee, book)
    return Receipt(transaction=None, balance_after=wallet.amount, blocked=True)


def settle_fee_if_blocked(wallet: WalletRow, book: Book) -> None:
    """Take the fee that a blocked wallet owes as soon as its balance covers it, and unblock it; never refuses."""
    if wallet.is_active:
        return
    try:
        fee, rate = fee_for(wallet, book)
    except RatesUnavailable:
        return  # Incoming money is never turned away for our own lack of a rate: the next fee run unblocks.
    if wallet.amount >= fee:
        pay_fee(wallet, fee, rate, book)


def fee_for(wallet: WalletRow, book: Book) -> tuple[Decimal, Decimal | None]:
    """The monthly fee in the wallet's currency, at least a cent, and the rate used. Raises `RatesUnavailable`."""
    rate = book.rate(FEE_CURRENCY, wallet.currency)
    return fee_at(rate), rate


def fee_at(rate: Decimal | None) -> Decimal:
    """The monthly fee at a rate from its own currency; None stands for that currency itself."""
    return MONTHLY_FEE if rate is None else max(convert(MONTHLY_FEE, rate), CENT)


def pay_fee(wallet: WalletRow, fee: Decimal, rate: Decimal | None, book: Book) -> Receipt:
    """Debit the fee that is due, unblock the wallet, and set the day on which the next one is."""
    due_at = wallet.fee_due_at
    assert due_at is not None  # a wallet of a person always has a day
    transaction = book.post(fee_id(wallet.id, due_at), FEE, sender=wallet, amount=fee, rate=rate)
    # Periods that passed while the wallet was blocked are not charged.
    wallet.fee_due_at = next_due(due_at, book.now if not wallet.is_active else due_at)
    wallet.is_active = True
    return Receipt(transaction=transaction, balance_after=wallet.amount, sender_number=wallet.number)


def next_due(due_at: datetime, now: datetime) -> datetime:
    """The first day after `now` that is a whole number of periods, at least one, after `due_at`."""
    return due_at + FEE_PERIOD * max(1, (now - due_at) // FEE_PERIOD + 1)


def block(wallet: WalletRow, fee: Decimal, book: Book) -> None:
    """Let the wallet send nothing until it can pay its fee, and owe its owner a message about it."""
    wallet.is_active = False
    book.changed(wallet)
    if wallet.user_id and wallet.fee_due_at:
        book.changes.messages.append(
            MessageRow(
                event=f"wallet_blocked:{wallet.id}:{wallet.fee_due_at.isoformat()}",
                user_id=wallet.user_id,
                template="wallet_blocked",
                params={"wallet_number": wallet.number, "amount": str(fee), "currency": wallet.currency},
            )
        )


def replay(order: Order, used: UsedKey, book: Book) -> Receipt:
    """
    Answer again what the key's first order was answered.

    Raises:
        IdempotencyKeyReused: this order is another one.
    """
    if used.row.fingerprint != fingerprint(order):
        raise IdempotencyKeyReused()
    transaction = used.transaction
    return Receipt(
        transaction=transaction,
        balance_after=used.row.balance_after,
        sender_number=book.number(transaction.sender_id),
        receiver_number=book.number(transaction.receiver_id),
        replayed=True,
    )


def fingerprint(order: Order) -> bytes:
    """A digest of what was asked, whatever its id: two orders with the same one ask the same."""
    receiver = getattr(order, "receiver_number", "")
    return sha256(
        f"{type(order).__name__} {order.wallet_id} {receiver} {getattr(order, 'amount', '')}".encode()
    ).digest()


_RULES: dict[type, Callable[[Any, Book], Receipt]] = {
    Deposit: deposit,
    Withdraw: withdraw,
    Transfer: transfer,
    ChargeFee: charge_fee,
}
