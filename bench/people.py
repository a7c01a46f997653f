"""The people of a benchmark: each has one KZT wallet with money in it, and a token good for a day."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.auth.tokens import Lifetimes, Tokens
from db.engine import engine
from db.tables import Transaction, Wallet
from db.transaction import transaction

# Enough for a single wallet to send 1.00 ten thousand times a second for hours.
OPENING_BALANCE = "100000000.00"
# How many of the people send, at most: an API process remembers more tokens than these, at any number of wallets.
SENDERS_MAX = 10_000
_TOKEN_SECONDS = 24 * 3600

# Wallet numbers are spread over all that there are, as `open_wallet` draws them: the factor shares no divisor with
# 9 * 10^9.
_OPEN = """
WITH people AS (
    INSERT INTO "user" ("email", "phone_number", "password_hash", "first_name", "last_name", "id")
    SELECT 'person-' || n || '@example.com', '+' || 77000000000 + n, '!', 'Person', n::text, uuidv7()
    FROM generate_series({}::bigint, {}::bigint) n
    RETURNING "id", "last_name"::bigint AS n
)
INSERT INTO "wallet" ("user", "wallet_number", "amount", "fee_due_at")
SELECT "id", (1000000000 + n * 6180339887 % 9000000000)::text, {}::text::numeric, now() + interval '30 days' FROM people
"""

_DEPOSIT = """
WITH opened AS (
    SELECT "id", "amount", uuidv7() AS "deposit" FROM "wallet" WHERE "user" IS NOT NULL AND "id" > {} ORDER BY "id"
),
deposits AS (
    INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
        "received_currency", "receiver")
    SELECT "deposit", 'DEPOSIT', "amount", 'KZT', "amount", 'KZT', "id" FROM opened
)
INSERT INTO "entry" ("transaction", "wallet", "amount", "balance_after")
SELECT "deposit", cash."id", -opened."amount", NULL
FROM opened, "wallet" cash WHERE cash."system" = 'cash' AND cash."amount_currency" = 'KZT'
UNION ALL
SELECT "deposit", "id", "amount", "amount" FROM opened
"""

_NEWEST = 'SELECT max("id") AS "id", count(*) FILTER (WHERE "user" IS NOT NULL) AS "people" FROM "wallet"'

# First the senders, every so many-th of all; the others only receive.
_HOLDERS = """
SELECT "id", "wallet_number", "user", "nth" % {} = 1 % {} AS "sends" FROM (
    SELECT "id", "wallet_number", "user", row_number() OVER (ORDER BY "id") AS "nth" FROM "wallet"
    WHERE "user" IS NOT NULL
) w ORDER BY "sends" DESC, "id"
"""

_HOLDER = 'SELECT "id", "wallet_number", "user", true AS "sends" FROM "wallet" WHERE "id" = {}'


async def settle_in(wallets: int) -> int:
    """
    Load so many more people with a wallet each, filled by a deposit, so that the audit holds.

    The id that the newest wallet had before: theirs follow it, one after another.
    """
    newest = (await Wallet.raw(_NEWEST))[0]
    after: int = max(newest["id"], 1000)  # people's wallets count from 1001
    async with transaction():
        await Wallet.raw(_OPEN, newest["people"] + 1, newest["people"] + wallets, OPENING_BALANCE)
        await Transaction.raw(_DEPOSIT, after)
    await rest()
    return after


async def rest() -> None:
    """What a database that has been loaded has to do at some time, done now: else it would do it during the runs."""
    await engine().run_ddl("VACUUM (ANALYZE)")
    await engine().run_ddl("CHECKPOINT")


def write_holders(file: Path, secret: str) -> int:
    """
    A line for each wallet: id, number, its owner's access token, with tabs between. How many there are.

    At most `SENDERS_MAX` of them, spread over all, have a token and stand in front. The others have a dash, and can
    only receive. Nobody else can read the file.
    """
    people: int = asyncio.run(Wallet.count().where(Wallet.user.is_not_null()).run())
    apart = -(-people // SENDERS_MAX)
    _write(file, secret, asyncio.run(Wallet.raw(_HOLDERS, apart, apart).run()))
    return people


def write_holder(file: Path, secret: str, wallet_id: int) -> None:
    """The line of this wallet alone."""
    _write(file, secret, asyncio.run(Wallet.raw(_HOLDER, wallet_id).run()))


def _write(file: Path, secret: str, rows: list[dict[str, Any]]) -> None:
    tokens = Tokens(secret, Lifetimes(access_seconds=_TOKEN_SECONDS))
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    with file.open("w") as lines:
        for row in rows:
            token = tokens.access(row["user"], uuid4()) if row["sends"] else "-"
            lines.write(f"{row['id']}\t{row['wallet_number']}\t{token}\n")


async def movements_recorded() -> int:
    """How many transactions the ledger has."""
    count: int = await Transaction.count()
    return count
