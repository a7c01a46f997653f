"""Wallets for tests of the engine: straight in the database, no API around them."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct

from actors.bank import Bank
from actors.orders import (
    Adjust,
    Bulk,
    Deposit,
    Freeze,
    IdempotencyKey,
    Payment,
    Receipt,
    Reverse,
    StaffMember,
    Transfer,
    Unfreeze,
    Withdraw,
    bulk_of,
    new_id,
)
from db.tables import User, Wallet

AYAN = StaffMember(7, "ayan")
STAFF_KEYS = UUID(int=7)

_numbers = count(1)


class Purse(Struct, frozen=True, kw_only=True):
    """A wallet and whose it is, and the orders that its owner can give."""

    id: int
    owner: UUID
    number: str

    def deposit(self, amount: str, key: str | None = None) -> Deposit:
        """Money from outside."""
        return Deposit(id=new_id(), caller_id=self.owner, wallet_id=self.id, amount=Decimal(amount), key=self._key(key))

    def withdraw(self, amount: str, key: str | None = None) -> Withdraw:
        """Money out."""
        return Withdraw(
            id=new_id(), caller_id=self.owner, wallet_id=self.id, amount=Decimal(amount), key=self._key(key)
        )

    def send(self, amount: str, to: "Purse", key: str | None = None) -> Transfer:
        """Money to another wallet."""
        return Transfer(
            id=new_id(),
            caller_id=self.owner,
            wallet_id=self.id,
            receiver_number=to.number,
            amount=Decimal(amount),
            key=self._key(key),
        )

    def send_all(self, wishes: Iterable[tuple[str, "Purse"]], key: str | None = None, *, atomic: bool = False) -> Bulk:
        """Money to many."""
        return bulk_of(
            [Payment(receiver_number=to.number, amount=Decimal(amount)) for amount, to in wishes],
            caller_id=self.owner,
            wallet_id=self.id,
            atomic=atomic,
            key=self._key(key),
        )

    def adjust(self, amount: str, key: str | None = None) -> Adjust:
        """A correction by staff: positive is a credit."""
        return Adjust(
            id=new_id(),
            staff=AYAN,
            wallet_id=self.id,
            amount=Decimal(amount),
            reason="counted wrong",
            key=IdempotencyKey(user_id=STAFF_KEYS, key=key) if key else None,
        )

    def freeze(self) -> Freeze:
        """The order that staff give."""
        return Freeze(id=new_id(), staff=AYAN, wallet_id=self.id, reason="stolen phone")

    def unfreeze(self) -> Unfreeze:
        """The order that staff give."""
        return Unfreeze(id=new_id(), staff=AYAN, wallet_id=self.id, reason="found again")

    async def row(self) -> dict[str, Any]:
        """The row as it is."""
        row: dict[str, Any] | None = await Wallet.select().where(Wallet.id == self.id).first()
        assert row is not None
        return row

    async def balance(self) -> str:
        """What the row says it holds."""
        return str((await self.row())["amount"])

    def _key(self, key: str | None) -> IdempotencyKey | None:
        return IdempotencyKey(user_id=self.owner, key=key) if key else None


async def purse(
    currency: str = "KZT", *, owner: UUID | None = None, fee_due_at: datetime | None = None, blocked: bool = False
) -> Purse:
    """An empty wallet, of a new person unless `owner` is given."""
    number = next(_numbers)
    if owner is None:
        owner = uuid4()
        await User.insert(
            User(id=owner, email=f"p{number}@example.com", phone_number=f"+7700{number:07}", password_hash="none")
        )
    (row,) = await Wallet.insert(
        Wallet(
            user=owner,
            wallet_number=f"{7_000_000_000 + number}",
            amount_currency=currency,
            is_active=not blocked,
            fee_due_at=fee_due_at or datetime.now(UTC) + timedelta(days=30),
        )
    )
    return Purse(id=row["id"], owner=owner, number=f"{7_000_000_000 + number}")


async def purses(number: int, *, holding: str, bank: Bank) -> list[Purse]:
    """So many wallets, each of a new person and with that much in it."""
    made = [await purse() for _ in range(number)]
    await asyncio.gather(*(bank.perform(each.deposit(holding)) for each in made))
    return made


def reversal(of: Receipt) -> Reverse:
    """What a receipt tells of, undone by staff."""
    assert of.transaction
    return Reverse(id=new_id(), staff=AYAN, transaction_id=of.transaction.id, reason="sent by mistake")
