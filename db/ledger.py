"""
Load wallets and keys, save what changed: the hot path's SQL, all of it.

Every statement takes arrays: one order is the N=1 case of a batch. `load` locks, `save` writes, and the two can't be
one statement, since what is written is decided in between, in Python, by the rules.
"""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any
from uuid import UUID

import msgspec

from db.rows import Changes, EntryRow, KeyRow, OriginalRow, StaffActionRow, TransactionRow, WalletRow
from db.tables import Wallet
from db.transaction import numbered, run

# FOR NO KEY UPDATE is the lock that an UPDATE of a balance takes anyway: it excludes other batches, not the foreign
# keys that point at a wallet. Ids are locked in order, so two batches can't wait for each other.
_LOAD = numbered("""
WITH locked AS MATERIALIZED (
    SELECT "id", "user", "wallet_number", "amount_currency", "amount", "is_active", "fee_due_at", "frozen_at"
    FROM "wallet" WHERE "id" = ANY({}::bigint[] || ARRAY(
        SELECT "id" FROM "wallet" WHERE "wallet_number" = ANY({}::text[])
    )) AND "user" IS NOT NULL ORDER BY "id" FOR NO KEY UPDATE
)
SELECT *, NULL::uuid AS "key_id", NULL::text AS "key", NULL::bytea AS "fingerprint", NULL::uuid AS "transaction"
FROM locked
UNION ALL
SELECT NULL, "user", NULL, NULL, "balance_after", NULL, NULL, NULL, "id", "key", "fingerprint", "transaction"
FROM "idempotency_key" WHERE "id" = ANY({}::uuid[])
""")

_FIND = """
SELECT t.*, (
    SELECT e."balance_after" FROM "entry" e WHERE e."wallet" = asked."wallet" AND e."transaction" = t."id"
    ORDER BY e."id" DESC LIMIT 1
) AS "balance_after"
FROM unnest({}::uuid[], {}::bigint[]) AS asked("id", "wallet")
JOIN "transaction" t ON t."id" = asked."id"
"""

_TRANSACTIONS = 'SELECT * FROM "transaction" WHERE "id" = ANY({}::uuid[])'

# By its own id, since what staff do that moves money is logged under the id of the transaction.
_ORIGINALS = """
SELECT t.*, EXISTS (
    SELECT 1 FROM "staff_action" a WHERE a."id" = t."id" AND a."action" = 'ADJUST'
) AS "adjusted", EXISTS (SELECT 1 FROM "transaction" r WHERE r."reverses" = t."id") AS "reversed"
FROM "transaction" t WHERE t."id" = ANY({}::uuid[])
"""

_WALLET_IDS = """
SELECT "id", "wallet_number" FROM "wallet" WHERE "wallet_number" = ANY({}::text[]) AND "user" IS NOT NULL
"""

# The rows come out of the arrays in the order in which they went in, so the ids of a wallet's entries tell their order.
# Amounts come as PostgreSQL's text for an array: asyncpg takes 1.1 µs for a `Decimal`, its text 0.2, and a transfer has
# eight.
_SAVE = numbered("""
WITH balances AS (
    UPDATE "wallet" SET "amount" = c."amount", "is_active" = c."is_active", "fee_due_at" = c."fee_due_at",
        "updated_at" = now()
    FROM unnest({}::bigint[], {}::text::numeric[], {}::boolean[], {}::timestamptz[])
        AS c("id", "amount", "is_active", "fee_due_at")
    WHERE "wallet"."id" = c."id"
), transactions AS (
    INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
        "received_currency", "exchange_rate", "sender", "receiver", "created_at", "reverses", "reference",
        "sender_balance")
    SELECT * FROM unnest({}::uuid[], {}::text[], {}::text::numeric[], {}::text[], {}::text::numeric[],
        {}::text[], {}::text::numeric[], {}::bigint[], {}::bigint[], {}::timestamptz[], {}::uuid[], {}::text[],
        {}::text::numeric[])
), keys AS (
    INSERT INTO "idempotency_key" ("id", "user", "key", "fingerprint", "transaction", "balance_after")
    SELECT * FROM unnest({}::uuid[], {}::uuid[], {}::text[], {}::bytea[], {}::uuid[], {}::text::numeric[])
)
INSERT INTO "entry" ("transaction", "wallet", "amount", "balance_after")
SELECT "transaction", "wallet", "amount", "balance_after"
FROM unnest({}::uuid[], {}::bigint[], {}::text::numeric[], {}::text::numeric[])
    WITH ORDINALITY AS e("transaction", "wallet", "amount", "balance_after", "position")
ORDER BY "position"
""")

_OWE = """
INSERT INTO "message" ("event", "user", "template", "params")
SELECT "event", "user", "template", "params"::jsonb
FROM unnest({}::text[], {}::uuid[], {}::text[], {}::text[]) AS m("event", "user", "template", "params")
ON CONFLICT ("event") DO NOTHING
"""

_FREEZE = """
UPDATE "wallet" SET "frozen_at" = c."frozen_at"
FROM unnest({}::bigint[], {}::timestamptz[]) AS c("id", "frozen_at") WHERE "wallet"."id" = c."id"
"""

_LOGGED = 'SELECT "id" FROM "staff_action" WHERE "id" = ANY({}::uuid[])'

_LOG = """
INSERT INTO "staff_action" ("id", "staff", "staff_name", "action", "wallet", "transaction", "reason", "created_at")
SELECT * FROM unnest({}::uuid[], {}::bigint[], {}::text[], {}::text[], {}::bigint[], {}::uuid[], {}::text[],
    {}::timestamptz[])
"""


async def load(
    wallet_ids: Collection[int], numbers: Collection[str], key_ids: Collection[UUID]
) -> tuple[list[WalletRow], list[KeyRow]]:
    """
    Lock the wallets with these ids or numbers until the transaction ends, and read which of these keys are used.

    The keys are seen as of the statement's start, even after a wait for a lock: a key that another process has used
    meanwhile is refused by its primary key when the batch is saved, and the batch runs again.
    """
    wallets: list[WalletRow] = []
    keys: list[KeyRow] = []
    for row in await run(_LOAD, list(wallet_ids), list(numbers), list(key_ids)):
        if row["key_id"] is None:
            wallets.append(
                WalletRow(
                    id=row["id"],
                    user_id=row["user"],
                    number=row["wallet_number"],
                    currency=row["amount_currency"],
                    amount=row["amount"],
                    is_active=row["is_active"],
                    fee_due_at=row["fee_due_at"],
                    frozen_at=row["frozen_at"],
                )
            )
        else:
            keys.append(
                KeyRow(
                    id=row["key_id"],
                    user_id=row["user"],
                    key=row["key"],
                    fingerprint=row["fingerprint"],
                    transaction_id=row["transaction"],
                    balance_after=row["amount"],
                )
            )
    return wallets, keys


async def transactions(ids: Collection[UUID]) -> dict[UUID, TransactionRow]:
    """The transactions with these ids."""
    return {row["id"]: transaction_row(row) for row in await Wallet.raw(_TRANSACTIONS, list(ids))}


async def originals(ids: Collection[UUID]) -> list[OriginalRow]:
    """
    The transactions with these ids, and whether each was an adjustment and has been reversed.

    A reversal that another process is just saving is not seen, and is refused by the index on `reverses`.
    """
    return [
        OriginalRow(transaction=transaction_row(row), adjusted=row["adjusted"], reversed=row["reversed"])
        for row in await Wallet.raw(_ORIGINALS, list(ids))
    ]


async def find(asked: Sequence[tuple[UUID, int]]) -> dict[UUID, tuple[TransactionRow, Decimal]]:
    """
    Which of these transactions are there, each with the balance it left in the wallet named beside it.

    Each wallet must be locked, and `load`ed, before: only then has whoever was saving these come to an end.
    """
    ids, wallet_ids = [id for id, _ in asked], [wallet_id for _, wallet_id in asked]
    return {row["id"]: (transaction_row(row), row["balance_after"]) for row in await Wallet.raw(_FIND, ids, wallet_ids)}


async def logged(order_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these orders stand in the log of staff; their wallets are locked, as for `find`."""
    return {row["id"] for row in await Wallet.raw(_LOGGED, order_ids)}


async def wallet_ids(numbers: Collection[str]) -> dict[str, int]:
    """The ids of people's wallets with these numbers."""
    return {row["wallet_number"]: row["id"] for row in await Wallet.raw(_WALLET_IDS, list(numbers))}


async def save(changes: Changes) -> None:
    """
    Write what a batch has changed: one statement, and one more for each of the things that are rare.

    Raises:
        asyncpg.UniqueViolationError: a key, a period's fee or a reversal was written elsewhere since `load`.
    """
    await run(
        _SAVE,
        *_columns(changes.wallets.values(), ("id", "amount", "is_active", "fee_due_at")),
        *_columns(changes.transactions, TransactionRow.__struct_fields__),
        *_columns(changes.keys, KeyRow.__struct_fields__),
        *_columns(changes.entries, EntryRow.__struct_fields__),
    )
    if changes.messages:
        await Wallet.raw(
            _OWE,
            *_columns(changes.messages, ("event", "user_id", "template")),
            [msgspec.json.encode(message.params).decode() for message in changes.messages],
        )
    if changes.frozen:
        await Wallet.raw(_FREEZE, list(changes.frozen), list(changes.frozen.values()))
    if changes.staff_actions:
        await Wallet.raw(_LOG, *_columns(changes.staff_actions, StaffActionRow.__struct_fields__))


_DECIMALS = {"amount", "received_amount", "exchange_rate", "balance_after", "sender_balance"}


def _columns(rows: Collection[Any], names: Sequence[str]) -> list[Any]:
    """The rows as one array a column."""
    columns = [(name, map(attrgetter(name), rows)) for name in names]
    return [_literal(column) if name in _DECIMALS else list(column) for name, column in columns]


def _literal(numbers: Iterable[Decimal | None]) -> str:
    return "{" + ",".join(["NULL" if number is None else str(number) for number in numbers]) + "}"


def transaction_row(row: dict[str, Any]) -> TransactionRow:
    """The columns of `transaction` as a struct."""
    return TransactionRow(
        id=row["id"],
        operation_type=row["operation_type"],
        amount=row["amount"],
        amount_currency=row["amount_currency"],
        received_amount=row["received_amount"],
        received_currency=row["received_currency"],
        exchange_rate=row["exchange_rate"],
        sender_id=row["sender"],
        receiver_id=row["receiver"],
        created_at=row["created_at"],
        reverses=row["reverses"],
        reference=row["reference"],
        sender_balance=row["sender_balance"],
    )
