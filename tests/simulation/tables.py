"""What the simulated database keeps, and what it refuses: unique ids, and balances below zero."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

from asyncpg.exceptions import CheckViolationError, NumericValueOutOfRangeError
from msgspec import Struct, field
from msgspec.structs import asdict, replace

from db import ledger
from db.rows import EntryRow, KeyRow, TransactionRow, WalletRow

POISON = Decimal("66.66")
"""No transaction of this amount can be saved: a fault of the database's own that hits one order."""

_RENAMED = {"transaction_id": "transaction", "user_id": "user", "sender_id": "sender", "receiver_id": "receiver"}


class Changes(Struct):
    """What one transaction has written, or nothing yet: seen by nobody before its COMMIT."""

    wallets: dict[int, dict[str, Any]] = field(default_factory=dict)
    transactions: list[TransactionRow] = field(default_factory=list)
    keys: list[KeyRow] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    staff_actions: list[UUID] = field(default_factory=list)


class Tables:
    """What is committed."""

    def __init__(self, wallets: Iterable[WalletRow]) -> None:
        self.wallets = {wallet.id: wallet for wallet in wallets}
        self.opening = {wallet.id: wallet.amount for wallet in self.wallets.values()}
        self.ids = {wallet.number: wallet.id for wallet in self.wallets.values()}
        self.transactions: dict[UUID, TransactionRow] = {}
        self.keys: dict[UUID, KeyRow] = {}
        self.entries: list[EntryRow] = []
        self.of_transaction: dict[UUID, list[EntryRow]] = {}
        self.reversed: dict[UUID, UUID] = {}
        self.staff_actions: set[UUID] = set()
        self.doubled: list[UUID] = []

    def wallet(self, id: int) -> dict[str, Any]:
        """A row as `ledger.load` gets it, with the columns that belong to keys."""
        row = self.wallets[id]
        nothing = dict.fromkeys(("key_id", "key", "fingerprint", "transaction"))
        return {
            **asdict(row),
            "user": row.user_id,
            "wallet_number": row.number,
            "amount_currency": row.currency,
            "kind": "locked",
        } | nothing

    def held(self, id: int) -> dict[str, Any]:
        """What `ledger.load` gets to know of a wallet whose row was skipped."""
        return {"kind": "held", "id": id, "wallet_number": self.wallets[id].number}

    def key(self, id: UUID) -> dict[str, Any]:
        """A key's row."""
        row = self.keys[id]
        return {
            "kind": "key",
            "key_id": id,
            "user": row.user_id,
            "key": row.key,
            "fingerprint": row.fingerprint,
            "transaction": row.transaction_id,
            "amount": row.balance_after,
        }

    def transaction(self, id: UUID) -> dict[str, Any]:
        """A row of `transaction`."""
        return {_RENAMED.get(name, name): value for name, value in asdict(self.transactions[id]).items()}

    def balance(self, transaction_id: UUID, wallet_id: int) -> Decimal | None:
        """What a transaction left in a wallet."""
        left = [each for each in self.of_transaction.get(transaction_id, ()) if each.wallet_id == wallet_id]
        return left[-1].balance_after if left else None

    def unique(self, changes: Changes) -> Iterator[tuple[str, UUID, bool]]:
        """What must be there only once, and whether it is there already."""
        for row in changes.transactions:
            yield "transaction", row.id, row.id in self.transactions
            if row.reverses:
                yield "reverses", row.reverses, row.reverses in self.reversed
        for key in changes.keys:
            yield "key", key.id, key.id in self.keys

    def commit(self, changes: Changes) -> None:
        """Make it so."""
        for id, columns in changes.wallets.items():
            self.wallets[id] = replace(self.wallets[id], **columns)
        for transaction in changes.transactions:
            if transaction.id in self.transactions:
                self.doubled.append(transaction.id)
            self.transactions[transaction.id] = transaction
            if transaction.reverses:
                self.reversed[transaction.reverses] = transaction.id
        for key in changes.keys:
            self.keys[key.id] = key
        for entry in changes.entries:
            self.entries.append(entry)
            self.of_transaction.setdefault(entry.transaction_id, []).append(entry)
        self.staff_actions.update(changes.staff_actions)


def saved(arguments: tuple[Any, ...]) -> Changes:
    """
    The arrays of `ledger.save` as rows.

    Raises:
        CheckViolationError, NumericValueOutOfRangeError: the table refuses one of them.
    """
    arrays = iter(arguments)
    wallets = _rows(arrays, ledger.WALLET_COLUMNS)
    changes = Changes(
        wallets={row.pop("id"): row for row in wallets},
        transactions=[TransactionRow(**row) for row in _rows(arrays, TransactionRow.__struct_fields__)],
        keys=[KeyRow(**row) for row in _rows(arrays, KeyRow.__struct_fields__)],
        entries=[EntryRow(**row) for row in _rows(arrays, EntryRow.__struct_fields__)],
    )
    if any(columns["amount"] < 0 for columns in changes.wallets.values()):
        raise CheckViolationError("a balance below zero")
    if any(transaction.amount == POISON for transaction in changes.transactions):
        raise NumericValueOutOfRangeError("poison")
    return changes


def _rows(arrays: Iterator[Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    columns = [_numbers(next(arrays)) if name in ledger._DECIMALS else next(arrays) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _numbers(literal: str) -> list[Decimal | None]:
    inside = literal.strip("{}")
    return [None if each == "NULL" else Decimal(each) for each in inside.split(",")] if inside else []
