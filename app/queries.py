"""Reads for people: balances and history. They skip the actors and go by index only."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from msgspec import Meta, Struct

from actors.money import Currency
from actors.orders import Receipt
from actors.refusals import WalletNotFound
from app.bodies import NO_CONTROLS
from app.problems import FieldError, ValidationFailed
from db.ledger import transaction_row
from db.rows import TransactionRow
from db.tables import Entry, Wallet

OperationType = Literal["DEPOSIT", "WITHDRAW", "TRANSFER", "FEE"]
OPERATION_TYPES: tuple[OperationType, ...] = get_args(OperationType)

BIGINT_MAX = 2**63 - 1


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
    name: str
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


class Page(Struct, frozen=True):
    """A piece of a wallet's history, newest first, and the cursor of the next, older one."""

    transactions: list[TransactionView]
    next_cursor: str | None


def receipt_view(receipt: Receipt) -> TransactionView:
    """What a money route answers."""
    assert receipt.transaction is not None  # the orders of people always move money
    return _view(receipt.transaction, receipt.sender_number, receipt.receiver_number, receipt.balance_after)


async def wallets_of(user_id: UUID) -> list[WalletView]:
    """All wallets of a person, in the order in which they were opened."""
    rows = await Wallet.select().where(Wallet.user == user_id).order_by(Wallet.id)
    return [_wallet(row) for row in rows]


async def wallet_of(user_id: UUID, wallet_id: int) -> WalletView:
    """
    One wallet of a person.

    Raises:
        WalletNotFound: there is none, or it is somebody else's.
    """
    row = await Wallet.select().where(Wallet.id == wallet_id, Wallet.user == user_id).first()
    if row is None:
        raise WalletNotFound()
    return _wallet(row)


_HISTORY = """
SELECT t.*, e."id" AS "entry_id", e."balance_after", s."wallet_number" AS "sender_number",
    r."wallet_number" AS "receiver_number"
FROM "entry" e
JOIN "transaction" t ON t."id" = e."transaction"
LEFT JOIN "wallet" s ON s."id" = t."sender"
LEFT JOIN "wallet" r ON r."id" = t."receiver"
WHERE e."wallet" = {} AND e."id" < {} AND t."operation_type" = ANY({}::text[])
    AND t."created_at" >= {} AND t."created_at" < {}
ORDER BY e."id" DESC LIMIT {}
"""


async def history(
    wallet_id: int,
    *,
    limit: int,
    operation_type: OperationType | None,
    since: datetime,
    until: datetime,
    cursor: str | None,
) -> Page:
    """
    A page of a wallet's transactions, newest first; `since` is inclusive, `until` is not.

    The caller's right to see them has been checked. Raises `ValidationFailed` for a cursor that is not ours.
    """
    types = [operation_type] if operation_type else list(OPERATION_TYPES)
    before = _entry_id(cursor) if cursor else BIGINT_MAX
    rows = await Entry.raw(_HISTORY, wallet_id, before, types, since, until, limit + 1)
    page, more = rows[:limit], len(rows) > limit
    views = [
        _view(transaction_row(row), row["sender_number"], row["receiver_number"], row["balance_after"]) for row in page
    ]
    return Page(views, _cursor(page[-1]["entry_id"]) if more else None)


def _cursor(entry_id: int) -> str:
    return urlsafe_b64encode(entry_id.to_bytes(8)).decode().rstrip("=")


def _entry_id(cursor: str) -> int:
    try:
        entry_id = int.from_bytes(urlsafe_b64decode(cursor + "="))
        if cursor != _cursor(entry_id) or entry_id > BIGINT_MAX:
            raise ValueError(cursor)
    except (ValueError, OverflowError):
        message = "Expected the cursor of a Link header, unchanged."
        raise ValidationFailed(FieldError(field="cursor", message=message)) from None
    return entry_id


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


def _view(row: TransactionRow, sender: str | None, receiver: str | None, balance_after: Decimal) -> TransactionView:
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
