"""
Load wallets and keys, save what changed: the hot path's SQL, all of it.

Every statement takes arrays: one order is the N=1 case of a batch. `load` locks, `save` writes, and the two can't be
one statement, since what is written is decided in between, in Python, by the rules. `load` waits for no row: a batch
has the orders of many, and one row that somebody holds must not stop all of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, get_args
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from db.clocks import CLOCKS_DIFFER_SECONDS
from db.rows import Changes, EntryRow, KeyRow, OriginalRow, StaffActionRow, TransactionRow, WalletRow
from db.tables import Transaction
from db.transaction import numbered, run

# The columns whose names are not those of the rows' fields: an id of another row is named after what it is of.
_COLUMNS = {
    "receiver_id": "receiver",
    "sender_id": "sender",
    "staff_id": "staff",
    "transaction_id": "transaction",
    "user_id": "user",
    "wallet_id": "wallet",
}
# Amounts come as PostgreSQL's text for an array: asyncpg takes 1.1 µs for a `Decimal`, its text 0.2, and a transfer has
# eight.
_ARRAYS: dict[type, str] = {
    bool: "boolean[]",
    bytes: "bytea[]",
    datetime: "timestamptz[]",
    Decimal: "text::numeric[]",
    int: "bigint[]",
    str: "text[]",
    UUID: "uuid[]",
}


def _types(row: type[Struct]) -> dict[str, type]:
    """The fields of a row with their types, whether they may be None or not."""
    return {
        field.name: next(kind for kind in (*get_args(field.type), field.type) if kind in _ARRAYS)
        for field in fields(row)
    }


def _columns(row: type[Struct]) -> str:
    """The columns that a row fills, as a statement lists them."""
    return ", ".join(f'"{_COLUMNS.get(name, name)}"' for name in _types(row))


def _unnest(row: type[Struct]) -> str:
    """Rows out of an array a column."""
    return f"unnest({', '.join(f'{{}}::{_ARRAYS[kind]}' for kind in _types(row).values())})"


# FOR NO KEY UPDATE is the lock that an UPDATE of a balance takes anyway: it excludes other batches, not the foreign
# keys that point at a wallet. A row that is skipped is there all the same, so it is read without a lock as well: else a
# wallet that somebody holds would be taken for one that is not there. The last row has the time, read when the rows are
# locked: later than whatever their last holder has read.
_LOAD = """
WITH asked AS MATERIALIZED (
    SELECT unnest($1::bigint[]) AS "id" UNION SELECT "id" FROM "wallet" WHERE "wallet_number" = ANY($2::text[])
), locked AS MATERIALIZED (
    SELECT "id", "user", "wallet_number", "amount_currency", "amount", "is_active", "fee_due_at", "frozen_at",
        "last_entry_at"
    FROM "wallet" WHERE "id" = ANY(ARRAY(SELECT "id" FROM asked)) AND "user" IS NOT NULL
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT 'locked' AS "kind", *, NULL::uuid AS "key_id", NULL::text AS "key", NULL::bytea AS "fingerprint",
    NULL::uuid AS "transaction"
FROM locked
UNION ALL
SELECT 'held', "id", NULL, "wallet_number", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM "wallet" WHERE "id" = ANY(ARRAY(SELECT "id" FROM asked EXCEPT SELECT "id" FROM locked)) AND "user" IS NOT NULL
UNION ALL
SELECT 'key', NULL, "user", NULL, NULL, "balance_after", NULL, NULL, NULL, NULL, "id", "key", "fingerprint",
    "transaction"
FROM "idempotency_key" WHERE "id" = ANY($3::uuid[])
UNION ALL
SELECT 'now', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, clock_timestamp(), NULL, NULL, NULL, NULL
"""

# In the order of their ids, so that two who wait can't wait for each other; and not for long, since they keep what they
# have got of it while they wait for the rest.
_WAIT_BRIEFLY = "SET LOCAL lock_timeout = '500ms'"
_WAIT = 'SELECT FROM "wallet" WHERE "id" = ANY($1::bigint[]) ORDER BY "id" FOR NO KEY UPDATE'

_FIND = numbered("""
SELECT t.*, (
    SELECT e."balance_after" FROM "entry" e WHERE e."wallet" = asked."wallet" AND e."transaction" = t."id"
    ORDER BY e."id" DESC LIMIT 1
) AS "balance_after"
FROM unnest({}::uuid[], {}::bigint[]) AS asked("id", "wallet")
JOIN "transaction" t ON t."id" = asked."id"
""")

_TRANSACTIONS = 'SELECT * FROM "transaction" WHERE "id" = ANY({}::uuid[])'

# By its own id, since what staff do that moves money is logged under the id of the transaction.
_ORIGINALS = numbered("""
SELECT t.*, EXISTS (
    SELECT 1 FROM "staff_action" a WHERE a."id" = t."id" AND a."action" = 'ADJUST'
) AS "adjusted", EXISTS (SELECT 1 FROM "transaction" r WHERE r."reverses" = t."id") AS "reversed"
FROM "transaction" t WHERE t."id" = ANY({}::uuid[])
""")

# The rows come out of the arrays in the order in which they went in, so the ids of a wallet's entries tell their order.
# Their dates tell it too, but where the clock was set back by more than clocks may differ: `dates_went_back` is by how
# much that was, all in all, and a minute more for each time, since the first entry may be older than the last.
_SAVE = numbered(f"""
WITH balances AS (
    UPDATE "wallet" SET "amount" = c."amount", "is_active" = c."is_active", "fee_due_at" = c."fee_due_at",
        "frozen_at" = c."frozen_at", "last_entry_at" = c."last_entry_at", "updated_at" = now(),
        "dates_went_back" = "dates_went_back" + CASE
            WHEN c."last_entry_at" < "wallet"."last_entry_at"
            THEN "wallet"."last_entry_at" - c."last_entry_at" + interval '{CLOCKS_DIFFER_SECONDS} s'
            ELSE interval '0 s'
        END
    FROM unnest(
        {{}}::bigint[], {{}}::text::numeric[], {{}}::boolean[], {{}}::timestamptz[], {{}}::timestamptz[],
        {{}}::timestamptz[]
    ) AS c("id", "amount", "is_active", "fee_due_at", "frozen_at", "last_entry_at")
    WHERE "wallet"."id" = c."id"
), transactions AS (
    INSERT INTO "transaction" ({_columns(TransactionRow)}) SELECT * FROM {_unnest(TransactionRow)}
), keys AS (
    INSERT INTO "idempotency_key" ({_columns(KeyRow)}) SELECT * FROM {_unnest(KeyRow)}
)
INSERT INTO "entry" ({_columns(EntryRow)}) SELECT {_columns(EntryRow)}
FROM {_unnest(EntryRow)} WITH ORDINALITY AS e({_columns(EntryRow)}, "position") ORDER BY "position"
""")  # noqa: S608 - of names that are written here and in db/rows.py

_OWE = numbered("""
INSERT INTO "message" ("event", "user", "template", "params")
SELECT "event", "user", "template", "params"::jsonb
FROM unnest({}::text[], {}::uuid[], {}::text[], {}::text[]) AS m("event", "user", "template", "params")
ON CONFLICT ("event") DO NOTHING
""")

# What a batch may change of a wallet, all in one UPDATE: at a second one of the same row PostgreSQL would look for the
# wallet's owner again, and wait where somebody has locked that one.
WALLET_COLUMNS = ("id", "amount", "is_active", "fee_due_at", "frozen_at", "last_entry_at")

_LOGGED = numbered('SELECT "id" FROM "staff_action" WHERE "id" = ANY({}::uuid[])')

_LOG = numbered(
    f'INSERT INTO "staff_action" ({_columns(StaffActionRow)}) SELECT * FROM {_unnest(StaffActionRow)}'  # noqa: S608 - likewise
)


class Loaded(Struct, frozen=True):
    """What a batch has locked and read."""

    wallets: list[WalletRow]
    keys: list[KeyRow]
    held: dict[int, str]
    """Wallets whose rows somebody else has locked, by their ids, with their numbers. Nothing is known of them."""
    now: datetime
    """The time by PostgreSQL's clock, once the rows were locked."""


async def load(wallet_ids: Collection[int], numbers: Collection[str], key_ids: Collection[UUID]) -> Loaded:
    """
    Lock those of the wallets with these ids or numbers that nobody holds, until the transaction ends, and read which of
    these keys are used, and what time it is.

    The keys are seen as of the statement's start: a key that another process uses meanwhile is refused by its primary
    key when the batch is saved, and the batch runs again.
    """
    wallets: list[WalletRow] = []
    keys: list[KeyRow] = []
    held: dict[int, str] = {}
    *rows, clock = await run(_LOAD, list(wallet_ids), list(numbers), list(key_ids))
    for row in rows:
        kind = row["kind"]
        if kind == "locked":
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
                    last_entry_at=row["last_entry_at"],
                )
            )
        elif kind == "held":
            held[row["id"]] = row["wallet_number"]
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
    return Loaded(wallets, keys, held, clock["last_entry_at"])


async def wait_for(wallet_ids: Collection[int]) -> None:
    """
    Lock these wallets until the transaction ends, though others may hold them now.

    Raises:
        asyncpg.LockNotAvailableError: somebody has held one of them for half a second.
    """
    await run(_WAIT_BRIEFLY)
    await run(_WAIT, list(wallet_ids))


async def transactions(ids: Collection[UUID]) -> dict[UUID, TransactionRow]:
    """The transactions with these ids."""
    return {row["id"]: transaction_row(row) for row in await Transaction.raw(_TRANSACTIONS, list(ids))}


async def originals(ids: Collection[UUID]) -> list[OriginalRow]:
    """
    The transactions with these ids, and whether each was an adjustment and has been reversed.

    A reversal that another process is just saving is not seen, and is refused by the index on `reverses`.
    """
    return [
        OriginalRow(transaction=transaction_row(row), adjusted=row["adjusted"], reversed=row["reversed"])
        for row in await run(_ORIGINALS, list(ids))
    ]


async def find(asked: Sequence[tuple[UUID, int]]) -> dict[UUID, tuple[TransactionRow, Decimal]]:
    """
    Which of these transactions are there, each with the balance it left in the wallet named beside it.

    Each wallet must be locked, and `load`ed, before: only then has whoever was saving these come to an end.
    """
    ids, wallet_ids = [id for id, _ in asked], [wallet_id for _, wallet_id in asked]
    return {row["id"]: (transaction_row(row), row["balance_after"]) for row in await run(_FIND, ids, wallet_ids)}


async def logged(order_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these orders stand in the log of staff; their wallets are locked, as for `find`."""
    return {row["id"] for row in await run(_LOGGED, order_ids)}


async def save(changes: Changes) -> None:
    """
    Write what a batch has changed: one statement, and one more for each of the things that are rare.

    Raises:
        asyncpg.UniqueViolationError: a key, a period's fee or a reversal was written elsewhere since `load`.
    """
    await run(
        _SAVE,
        *_arrays(changes.wallets.values(), WALLET_COLUMNS),
        *_arrays(changes.transactions, TransactionRow.__struct_fields__),
        *_arrays(changes.keys, KeyRow.__struct_fields__),
        *_arrays(changes.entries, EntryRow.__struct_fields__),
    )
    if changes.messages:
        await run(
            _OWE,
            *_arrays(changes.messages, ("event", "user_id", "template")),
            [msgspec.json.encode(message.params).decode() for message in changes.messages],
        )
    if changes.staff_actions:
        await run(_LOG, *_arrays(changes.staff_actions, StaffActionRow.__struct_fields__))


_DECIMALS = {
    name
    for row in (TransactionRow, KeyRow, EntryRow, WalletRow)
    for name, kind in _types(row).items()
    if kind is Decimal
}


def _arrays(rows: Collection[Any], names: Sequence[str]) -> list[Any]:
    """The rows as one array a column."""
    columns = [(name, map(attrgetter(name), rows)) for name in names]
    return [_literal(column) if name in _DECIMALS else list(column) for name, column in columns]


def _literal(numbers: Iterable[Decimal | None]) -> str:
    return "{" + ",".join(["NULL" if number is None else str(number) for number in numbers]) + "}"


def transaction_row(row: Mapping[str, Any]) -> TransactionRow:
    """The columns of `transaction` as a struct; to go through its fields instead would take four times as long."""
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
