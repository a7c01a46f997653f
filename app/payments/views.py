"""Movements of money as the people concerned see them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, get_args
from uuid import UUID

from msgspec import Meta, Struct

from actors.money import Currency
from actors.orders import Receipt
from app.http.explanations import NO_CONTROLS
from app.http.fields import Amount, WalletNumber
from db.rows import TransactionRow

OperationType = Literal["DEPOSIT", "WITHDRAW", "TRANSFER", "FEE"]
OPERATION_TYPES: tuple[OperationType, ...] = get_args(OperationType)

Rate = Annotated[Decimal, Meta(description="Units received per unit sent.", examples=["0.001657438382"])]
Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=140,
        pattern=NO_CONTROLS,
        description="The sender's note on a transfer. Both parties see it, so all of it must be visible.",
        examples=["Invoice 2026-118"],
    ),
]


class Party(Struct, frozen=True):
    """One side of a movement."""

    wallet_number: WalletNumber


class TransactionView(Struct, frozen=True, kw_only=True):
    """A movement as one of its wallets sees it: `balance_after` is that of the caller's wallet."""

    id: UUID
    operation_type: OperationType
    amount: Amount
    amount_currency: Currency
    received_amount: Amount
    received_currency: Currency
    exchange_rate: Rate | None
    sender: Party | None
    receiver: Party | None
    reference: Reference | None
    balance_after: Amount
    created_at: datetime


def receipt_view(receipt: Receipt) -> TransactionView:
    """What a money route answers."""
    assert receipt.transaction is not None  # the orders of people always move money
    return transaction_view(receipt.transaction, receipt.sender_number, receipt.receiver_number, receipt.balance_after)


def transaction_view(
    row: TransactionRow, sender: str | None, receiver: str | None, balance_after: Decimal
) -> TransactionView:
    """A movement between wallets with these numbers, as the one with this balance sees it."""
    return TransactionView(
        id=row.id,
        operation_type=row.operation_type,  # type: ignore[arg-type]  # the rules write no other
        amount=row.amount,
        amount_currency=row.amount_currency,
        received_amount=row.received_amount,
        received_currency=row.received_currency,
        exchange_rate=row.exchange_rate,
        sender=Party(sender) if sender else None,
        receiver=Party(receiver) if receiver else None,
        reference=row.reference,
        balance_after=balance_after,
        created_at=row.created_at,
    )
