"""Wallets as their owners see them. Reads skip the actors and go by index only."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from actors.money import Currency
from actors.refusals import WalletNotFound
from app.http.fields import Amount, WalletNumber
from db.tables import Wallet

WalletStatus = Literal["ACTIVE", "BLOCKED", "FROZEN"]


class WalletView(Struct, kw_only=True, rename={"user_id": "user"}):
    """A wallet of the caller's."""

    id: int
    wallet_number: WalletNumber
    name: Annotated[str, Meta(examples=["Groceries"])]
    amount: Amount
    amount_currency: Currency
    status: Annotated[
        WalletStatus,
        Meta(description="`BLOCKED`: it can't pay its fee, and sends nothing. `FROZEN` by staff: nothing in or out."),
    ]
    is_active: Annotated[bool, Meta(description="Whether `status` is `ACTIVE`.")]
    created_at: datetime
    updated_at: datetime
    user_id: UUID


# Piccolo takes as long to write a `select` down as PostgreSQL to answer it, and these are asked for all the time.
_WALLETS = 'SELECT * FROM "wallet" WHERE "user" = {} ORDER BY "id"'
_WALLET = 'SELECT * FROM "wallet" WHERE "id" = {} AND "user" = {}'


async def wallets_of(user_id: UUID) -> list[WalletView]:
    """All wallets of a person, in the order in which they were opened."""
    return [_view(row) for row in await Wallet.raw(_WALLETS, user_id)]


async def wallet_of(user_id: UUID, wallet_id: int) -> WalletView:
    """
    One wallet of a person.

    Raises:
        WalletNotFound: there is none, or it is somebody else's.
    """
    rows = await Wallet.raw(_WALLET, wallet_id, user_id)
    if not rows:
        raise WalletNotFound()
    return _view(rows[0])


def _view(row: dict[str, Any]) -> WalletView:
    status: WalletStatus = "FROZEN" if row["frozen_at"] else "ACTIVE" if row["is_active"] else "BLOCKED"
    return WalletView(
        id=row["id"],
        wallet_number=row["wallet_number"],
        name=row["name"],
        amount=row["amount"],
        amount_currency=row["amount_currency"],
        status=status,
        is_active=status == "ACTIVE",
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        user_id=row["user"],
    )
