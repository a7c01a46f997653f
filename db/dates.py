"""
In what order the entries of a wallet are dated: looked at once for each wallet, kept by every payment from then on.

The ids of a wallet's entries tell their order. Their dates tell the same but where a clock was set back. The sum of
those steps, `dates_went_back`, bounds how much older an entry may be than any before it. So whoever looks for the first
entry of a time finds it by halving, if the time is moved by that much.
"""

import asyncio

from asyncpg import Connection

from db.engine import engine

WALLETS = 500
PAUSE_SECONDS = 0.05

# One entry of a payment that arrives meanwhile would not have been looked at: its wallet is left for the next time.
_LOOK = """
WITH asked AS MATERIALIZED (
    SELECT "id", "last_entry_at" FROM "wallet"
    WHERE "id" > $1 AND "user" IS NOT NULL AND "dates_went_back" IS NULL ORDER BY "id" LIMIT $2
), found AS MATERIALIZED (
    SELECT asked.*, dates.* FROM asked CROSS JOIN LATERAL (
        SELECT coalesce(max("latest" - "created_at"), interval '0 s') AS "went_back", (
            SELECT t."created_at" FROM "entry" e JOIN "transaction" t ON t."id" = e."transaction"
            WHERE e."wallet" = asked."id" ORDER BY e."id" DESC LIMIT 1
        ) AS "newest"
        FROM (
            SELECT t."created_at", max(t."created_at") OVER (ORDER BY e."id") AS "latest"
            FROM "entry" e JOIN "transaction" t ON t."id" = e."transaction" WHERE e."wallet" = asked."id"
        ) dated
    ) dates
), free AS (
    SELECT w."id", found."went_back", found."newest" FROM "wallet" w JOIN found ON found."id" = w."id"
    WHERE w."dates_went_back" IS NULL AND w."last_entry_at" IS NOT DISTINCT FROM found."last_entry_at"
    FOR NO KEY UPDATE OF w SKIP LOCKED
), learned AS (
    UPDATE "wallet" w SET "dates_went_back" = free."went_back",
        "last_entry_at" = coalesce(w."last_entry_at", free."newest")
    FROM free WHERE w."id" = free."id" RETURNING w."id"
)
SELECT (SELECT max("id") FROM asked) AS "last", (SELECT count(*) FROM learned) AS "learned"
"""


async def learn_dates() -> int:
    """Look at the wallets that nobody has looked at yet, some at a time; how many are known now."""
    connection: Connection = await engine().get_new_connection()  # a long history takes longer than the pool allows
    try:
        total, last = 0, 0
        while (found := await connection.fetchrow(_LOOK, last, WALLETS))["last"] is not None:
            total, last = total + found["learned"], found["last"]
            await asyncio.sleep(PAUSE_SECONDS)
        return total
    finally:
        await connection.close()
