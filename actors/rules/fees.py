"""The monthly fee: what is due, who pays it, who is blocked. Pure: no await, no database, no clock."""

from datetime import datetime, timedelta
from decimal import Decimal

from actors.money import CENT, convert
from actors.orders import ChargeFee, Receipt, fee_id
from actors.refusals import RatesUnavailable, WalletFrozen, WalletNotFound
from actors.rules.book import FEE, Book
from db.rows import MessageRow, WalletRow

MONTHLY_FEE = Decimal("200.00")
FEE_CURRENCY = "KZT"
FEE_PERIOD = timedelta(days=30)


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
    if wallet.frozen_at:
        raise WalletFrozen()
    fee, rate = fee_for(wallet, book)
    # Nothing below may refuse.
    if wallet.amount >= fee:
        return pay_fee(wallet, fee, rate, book)
    if wallet.is_active:
        block(wallet, fee, book)
    return Receipt(transaction=None, balance_after=wallet.amount, blocked=True)


def settle_fee_if_blocked(wallet: WalletRow, book: Book) -> None:
    """Take the fee that a blocked wallet owes as soon as its balance covers it, and unblock it; never refuses."""
    if wallet.is_active or wallet.frozen_at:
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
    return book.receipt(transaction, wallet.amount)


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
