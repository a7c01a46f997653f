"""
Deposits, withdrawals and transfers. Pure: no await, no database, no clock.

A rule refuses first, flat; then it must succeed. So a refusal leaves the book as it was. What is wrong with the
sender's own wallet is told first: who could not pay learns nothing of the receiver's.
"""

from decimal import Decimal

from actors.money import BALANCE_MAX, PAYMENT_MAX
from actors.orders import Deposit, Receipt, Transfer, Withdraw
from actors.refusals import (
    BalanceLimit,
    InsufficientFunds,
    ReceiverUnavailable,
    SameWallet,
    WalletBlocked,
    WalletFrozen,
)
from actors.rules.book import DEPOSIT, TRANSFER, WITHDRAW, Book
from actors.rules.fees import settle_fee_if_blocked
from db.rows import WalletRow


def deposit(order: Deposit, book: Book) -> Receipt:
    """Credit a wallet with money from outside, and take an overdue fee if that unblocks it."""
    wallet = book.owned(order.wallet_id, order.caller_id)
    if wallet.frozen_at:
        raise WalletFrozen()
    if wallet.amount + order.amount > PAYMENT_MAX:
        raise BalanceLimit()
    # Nothing below may refuse.
    transaction = book.post(order.id, DEPOSIT, receiver=wallet, amount=order.amount)
    receipt = book.receipt(transaction, wallet.amount)
    settle_fee_if_blocked(wallet, book)
    return receipt


def withdraw(order: Withdraw, book: Book) -> Receipt:
    """Debit a wallet for money that leaves."""
    wallet = book.owned(order.wallet_id, order.caller_id)
    _refuse_unless_it_pays(wallet, order.amount)
    # Nothing below may refuse.
    transaction = book.post(order.id, WITHDRAW, sender=wallet, amount=order.amount)
    return book.receipt(transaction, wallet.amount)


def transfer(order: Transfer, book: Book) -> Receipt:
    """Debit the sender, credit the receiver in its own currency, and take an overdue fee from whom it unblocks."""
    sender = book.owned(order.wallet_id, order.caller_id)
    refuse_unless_sent(order, sender)
    receiver = book.numbered(order.receiver_number)
    if receiver.frozen_at:
        raise ReceiverUnavailable()
    received, rate = book.exchange(order.amount, sender.currency, receiver.currency)
    if receiver.amount + received > BALANCE_MAX:
        raise ReceiverUnavailable()
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


def refuse_unless_sent(order: Transfer, sender: WalletRow) -> None:
    """Raise what stands in the way of a transfer on the sender's side, whoever is to receive it."""
    if order.receiver_number == sender.number:
        raise SameWallet()
    _refuse_unless_it_pays(sender, order.amount)


def _refuse_unless_it_pays(wallet: WalletRow, amount: Decimal) -> None:
    if wallet.frozen_at:
        raise WalletFrozen()
    if not wallet.is_active:
        raise WalletBlocked()
    if wallet.amount < amount:
        raise InsufficientFunds()
