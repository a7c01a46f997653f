"""What people are shown: wallets and movements. Reads skip the actors and go by index only."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from msgspec import Meta, Struct

from actors.money import Currency
from actors.orders import Receipt
from actors.refusals import WalletNotFound
from app.http.explanations import NO_CONTROLS
from db.rows import TransactionRow
from db.tables import Wallet

OperationType = Literal["DEPOSIT", "WITHDRAW", "TRANSFER", "FEE"]
OPERATION_TYPES: tuple[OperationType, ...] = get_args(OperationType)


Amount = Annotated[Decimal, Meta(description="Two decimals.", examples=["12500.00"])]
Number = Annotated[str, Meta(description="Ten digits.", examples=["4378526578"])]
Rate = Annotated[Decimal, Meta(description="Received for one unit sent.", examples=["0.001657438382"])]


Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=140,
        pattern=NO_CONTROLS,
        description="What the sender says of a transfer; both parties see it.",
        examples=["Invoice 2026-118"],
    ),
]


class WalletView(Struct, kw_only=True, rename={"user_id": "user"}):
    """A wallet of the caller's."""

    id: int
    wallet_number: Number
    name: Annotated[str, Meta(examples=["Groceries"])]
    amount: Amount
    amount_currency: Currency
    is_active: bool
    created_at: datetime
    updated_at: datetime
    user_id: UUID


class Party(Struct, frozen=True):
    """One side of a movement."""

    wallet_number: Number


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


# Piccolo takes as long to write a `select` down as PostgreSQL to answer it, and these are asked for all the time.
_WALLETS = 'SELECT * FROM "wallet" WHERE "user" = {} ORDER BY "id"'
_WALLET = 'SELECT * FROM "wallet" WHERE "id" = {} AND "user" = {}'


async def wallets_of(user_id: UUID) -> list[WalletView]:
    """All wallets of a person, in the order in which they were opened."""
    return [_wallet(row) for row in await Wallet.raw(_WALLETS, user_id)]


async def wallet_of(user_id: UUID, wallet_id: int) -> WalletView:
    """
    One wallet of a person.

    Raises:
        WalletNotFound: there is none, or it is somebody else's.
    """
    rows = await Wallet.raw(_WALLET, wallet_id, user_id)
    if not rows:
        raise WalletNotFound()
    return _wallet(rows[0])


def _wallet(row: dict[str, Any]) -> WalletView:
    return WalletView(
        id=row["id"],
        wallet_number=row["wallet_number"],
        name=row["name"],
        amount=row["amount"],
        amount_currency=row["amount_currency"],
        is_active=row["is_active"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        user_id=row["user"],
    )


def transaction_view(
    row: TransactionRow, sender: str | None, receiver: str | None, balance_after: Decimal
) -> TransactionView:
    """A movement between wallets with these numbers, as the one with this balance sees it."""
    return TransactionView(
        id=row.id,
        operation_type=row.operation_type,  # type: ignore[arg-type]  # the rules write no other
        amount=row.amount,
        amount_currency=row.amount_currency,  # type: ignore[arg-type]
        received_amount=row.received_amount,
        received_currency=row.received_currency,  # type: ignore[arg-type]
        exchange_rate=row.exchange_rate,
        sender=Party(sender) if sender else None,
        receiver=Party(receiver) if receiver else None,
        reference=row.reference,
        balance_after=balance_after,
        created_at=row.created_at,
    )
