"""
What staff's orders do to a book: adjust, reverse, freeze, unfreeze. Pure: no await, no database, no clock.

Staff act on blocked and on frozen wallets too: a thief's wallet is frozen first, and what was stolen is reversed then.
Each change is in their log, in the same commit.
"""

from decimal import Decimal
from uuid import UUID

from actors.money import PAYMENT_MAX, RATE_STEP
from actors.orders import Adjust, Freeze, Receipt, Reverse, Unfreeze
from actors.refusals import BalanceLimit, InsufficientFunds, NotReversible, TransactionNotFound, WalletNotFound
from actors.rules.book import CONTRA, DEPOSIT, TRANSFER, WITHDRAW, Book
from actors.rules.fees import settle_fee_if_blocked
from db.rows import StaffActionRow, TransactionRow, WalletRow

ADJUSTMENTS = "adjustments"


def adjust(order: Adjust, book: Book) -> Receipt:
    """Credit or debit a wallet against the system wallet for adjustments; its owner sees a deposit or a withdrawal."""
    wallet = _wallet(order.wallet_id, book)
    if order.amount > 0 and wallet.amount + order.amount > PAYMENT_MAX:
        raise BalanceLimit()
    if wallet.amount + order.amount < 0:
        raise InsufficientFunds(f"The wallet holds {wallet.amount} {wallet.currency}. Debit that or less.")
    # Nothing below may refuse.
    amount = abs(order.amount)
    if order.amount > 0:
        transaction = book.post(order.id, DEPOSIT, receiver=wallet, amount=amount, contra=ADJUSTMENTS)
    else:
        transaction = book.post(order.id, WITHDRAW, sender=wallet, amount=amount, contra=ADJUSTMENTS)
    _log(order, "ADJUST", book, wallet_id=wallet.id, transaction_id=transaction.id)
    receipt = book.receipt(transaction, wallet.amount)
    if order.amount > 0:
        settle_fee_if_blocked(wallet, book)
    return receipt


def reverse(order: Reverse, book: Book) -> Receipt:
    """
    Move the same money back, once.

    The one who received pays back what arrived, and the one who sent gets back what left: no rate is asked.
    """
    original = book.originals.get(order.transaction_id)
    if original is None:
        raise TransactionNotFound()
    first = original.transaction
    if first.reverses:
        raise NotReversible("It is a reversal itself. Adjust a balance instead.")
    if original.reversed:
        raise NotReversible("It has been reversed already.")
    payer, payee = (book.wallets[id] if id else None for id in (first.receiver_id, first.sender_id))
    if payer and payer.amount < first.received_amount:
        raise InsufficientFunds(
            f"The receiver no longer has the money: wallet {payer.number} holds {payer.amount} {payer.currency}, and"
            f" {first.received_amount} would be taken back."
        )
    # Nothing below may refuse.
    original.reversed = True
    transaction = book.post(
        order.id,
        TRANSFER if payer and payee else DEPOSIT if payee else WITHDRAW,
        sender=payer,
        receiver=payee,
        amount=first.received_amount,
        received=first.amount,
        rate=_implied_rate(first),
        contra=ADJUSTMENTS if original.adjusted else CONTRA.get(first.operation_type),
        reverses=first.id,
    )
    acting = payer or payee
    assert acting  # a transaction has at least one wallet
    _log(order, "REVERSE", book, wallet_id=acting.id, transaction_id=transaction.id)
    receipt = book.receipt(transaction, acting.amount)
    if payee:
        settle_fee_if_blocked(payee, book)
    return receipt


def freeze(order: Freeze, book: Book) -> Receipt:
    """Let nothing in or out, from now on; a wallet that is frozen stays so and nothing is logged."""
    wallet = _wallet(order.wallet_id, book)
    if order.id in book.logged:
        return Receipt(transaction=None, balance_after=wallet.amount)
    if wallet.frozen_at:
        return Receipt(transaction=None, balance_after=wallet.amount, unchanged=True)
    wallet.frozen_at = book.now
    book.changed(wallet)
    _log(order, "FREEZE", book, wallet_id=wallet.id)
    return Receipt(transaction=None, balance_after=wallet.amount)


def unfreeze(order: Unfreeze, book: Book) -> Receipt:
    """End a freeze. A wallet that was blocked before stays so, unless its balance pays the fee by now."""
    wallet = _wallet(order.wallet_id, book)
    if order.id in book.logged:
        return Receipt(transaction=None, balance_after=wallet.amount)
    if not wallet.frozen_at:
        return Receipt(transaction=None, balance_after=wallet.amount, unchanged=True)
    wallet.frozen_at = None
    book.changed(wallet)
    _log(order, "UNFREEZE", book, wallet_id=wallet.id)
    settle_fee_if_blocked(wallet, book)
    return Receipt(transaction=None, balance_after=wallet.amount)


def _wallet(wallet_id: int, book: Book) -> WalletRow:
    wallet = book.wallets.get(wallet_id)
    if wallet is None:
        raise WalletNotFound()
    return wallet


def _implied_rate(first: TransactionRow) -> Decimal | None:
    """What one unit of what is paid back is worth in what arrives; None where the currencies are the same."""
    if first.amount_currency == first.received_currency:
        return None
    return max((first.amount / first.received_amount).quantize(RATE_STEP), RATE_STEP)


def _log(
    order: Adjust | Reverse | Freeze | Unfreeze,
    action: str,
    book: Book,
    *,
    wallet_id: int,
    transaction_id: UUID | None = None,
) -> None:
    book.changes.staff_actions.append(
        StaffActionRow(
            id=order.id,
            staff_id=order.staff.id,
            staff_name=order.staff.name,
            action=action,
            wallet_id=wallet_id,
            transaction_id=transaction_id,
            reason=order.reason,
            created_at=book.now,
        )
    )
