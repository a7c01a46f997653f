"""The people of a benchmark: each has one KZT wallet with money in it, and a token good for a day."""

import asyncio
from pathlib import Path

from app.auth import Lifetimes, Tokens
from db.tables import Wallet
from db.transaction import transaction

# Enough for a single wallet to send 1.00 ten thousand times a second for hours.
OPENING_BALANCE = "100000000.00"
_TOKEN_SECONDS = 24 * 3600

_PEOPLE = """
INSERT INTO "user" ("email", "phone_number", "password_hash", "first_name", "last_name", "id")
SELECT 'person-' || n || '@example.com', '+' || 77000000000 + n, '!', 'Person', n::text, gen_random_uuid()
FROM generate_series(1, {}::bigint) n
"""

# Numbers are spread over all that there are, as `open_wallet` draws them: the factor shares no divisor with 9 * 10^9.
_WALLETS = """
INSERT INTO "wallet" ("user", "wallet_number", "amount", "fee_due_at")
SELECT "id", (1000000000 + n * 6180339887 % 9000000000)::text, {}::text::numeric, now() + interval '30 days'
FROM (SELECT "id", row_number() OVER () AS n FROM "user") people
"""

_DEPOSITS = """
WITH opened AS (SELECT "id", "amount", uuidv7() AS "deposit" FROM "wallet" WHERE "user" IS NOT NULL ORDER BY "id"),
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

_HOLDERS = 'SELECT "id", "wallet_number", "user" FROM "wallet" WHERE "user" IS NOT NULL ORDER BY "id"'


async def settle_in(wallets: int) -> None:
    """Load so many people with a wallet each, filled by a deposit, so that the audit holds."""
    async with transaction():
        await Wallet.raw(_PEOPLE, wallets)
        await Wallet.raw(_WALLETS, OPENING_BALANCE)
        await Wallet.raw(_DEPOSITS)
    await Wallet.raw("VACUUM (ANALYZE)")
    await Wallet.raw("CHECKPOINT")  # or the first run would write what was loaded


def write_holders(file: Path, secret: str) -> None:
    """A line for each wallet: id, number, its owner's access token, with tabs between. Only we can read the file."""
    tokens = Tokens(secret, Lifetimes(access_seconds=_TOKEN_SECONDS))
    file.touch(mode=0o600)
    with file.open("w") as lines:
        for row in asyncio.run(Wallet.raw(_HOLDERS).run()):
            lines.write(f"{row['id']}\t{row['wallet_number']}\t{tokens.access(row['user'])}\n")


async def transfers_recorded() -> int:
    """How many transfers the ledger has."""
    rows = await Wallet.raw('SELECT count(*) FROM "transaction" WHERE "operation_type" = \'TRANSFER\'')
    count: int = rows[0]["count"]
    return count
