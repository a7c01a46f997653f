"""Pages of a history of tens of thousands of entries: the right ones, and read without walking through the others."""

from datetime import UTC, datetime, timedelta
from random import Random

from app.payments.history import history
from db.engine import Pool, connection_pool
from db.tables import Wallet
from tests.helpers.postgres import assert_audit, connected, connected_alone
from tests.helpers.purses import purse

_ENTRIES = 30_000
_BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)
_APART = timedelta(seconds=1)

# A deposit of 1.00 every second, by machines whose clocks differ by up to four.
_DEPOSITS = """
WITH made AS MATERIALIZED (
    SELECT n, uuidv7() AS "id", {}::timestamptz + n * {}::interval + random(-2000, 2000) * interval '1 ms' AS "at"
    FROM generate_series(1, {}::bigint) n
), moved AS (
    INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
        "received_currency", "receiver", "created_at")
    SELECT "id", 'DEPOSIT', 1.00, 'KZT', 1.00, 'KZT', {}::bigint, "at" FROM made
), legs AS (
    INSERT INTO "entry" ("transaction", "wallet", "amount", "balance_after")
    SELECT "id", leg.* FROM made, LATERAL (VALUES ({}::bigint, 1.00, n), (1, -1.00, NULL)) leg ORDER BY n
)
UPDATE "wallet" SET "amount" = {}::bigint WHERE "id" = {}::bigint
"""


async def test_whatever_part_of_a_long_history_is_asked_for_only_that_is_read(database_url: str) -> None:
    random = Random(11)
    async with connection_pool(Pool()):
        old = await purse()
        await Wallet.raw(_DEPOSITS, _BEGAN_AT, _APART, _ENTRIES, old.id, old.id, _ENTRIES, old.id)
    async with connected(database_url) as connection:
        await connection.execute("VACUUM (ANALYZE)")
        rows = await connection.fetch(
            'SELECT t.id, t.created_at FROM entry e JOIN "transaction" t ON t.id = e.transaction'
            " WHERE e.wallet = $1 ORDER BY e.id DESC",
            old.id,
        )
    assert len(rows) == _ENTRIES
    before = await _read(database_url)

    asked = 150
    async with connection_pool(Pool()):
        for _ in range(asked):
            since, end = sorted(_BEGAN_AT + random.uniform(-0.1, 1.1) * _ENTRIES * _APART for _ in range(2))
            if random.random() < 0.3:  # so short that it ends within a page
                end = since + random.uniform(0, 60) * _APART
            wanted = [row["id"] for row in rows if since <= row["created_at"] < end]
            page = await history(old.id, limit=20, since=since, until=end)
            assert [each.id for each in page.transactions] == wanted[:20]
            assert bool(page.next_cursor) == (len(wanted) > 20)
            if page.next_cursor:
                page = await history(old.id, limit=20, since=since, until=end, cursor=page.next_cursor)
                assert [each.id for each in page.transactions] == wanted[20:40]

    # Two searches and a page, twice: a walk would read thousands each time.
    assert await _read(database_url) - before < asked * 2 * (2 * 40 + 30)
    await assert_audit()


async def _read(database_url: str) -> int:
    """How many entries have been read by index, once nobody else is connected: what they did is counted then."""
    async with connected_alone(database_url) as connection:
        return int(await connection.fetchval("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'entry'"))
