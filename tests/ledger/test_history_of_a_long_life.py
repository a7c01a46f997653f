"""
Pages of a history of tens of thousands of entries: the right ones, and read without walking through the others.

Of one whose dates go back here and there, since a clock was wrong, the right ones too.
"""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from app.http.parameters import EARLIEST, LATEST
from app.payments.history import history
from db.dates import learn_dates
from db.engine import Pool, connection_pool
from db.tables import Wallet
from tests.helpers.banks import banks
from tests.helpers.postgres import assert_audit, connected, connected_alone
from tests.helpers.purses import purse, purses

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

# As above, at any dates.
_DATED = """
WITH made AS MATERIALIZED (
    SELECT n, uuidv7() AS "id", "at" FROM unnest({}::timestamptz[]) WITH ORDINALITY AS dated("at", n)
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
    asked = 150
    async with connection_pool(Pool()):
        assert await learn_dates() == 1
    before = await _read(database_url)
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


@pytest.mark.parametrize("seed", range(4))
async def test_no_transaction_is_lost_where_a_clock_was_wrong(database: str, seed: int) -> None:
    """By seconds or by a month, ahead or behind, for one payment or for many; and it may have happened again since."""
    random = Random(seed)
    wallet = await purse()
    dates: list[datetime] = []
    clock = _BEGAN_AT
    while len(dates) < 400:
        if random.random() < 0.03:
            clock += timedelta(seconds=random.choice((-1, 1)) * 10 ** random.uniform(0, 6.5))
        clock += timedelta(seconds=random.choice((0, 1, 600)))
        dates.append(clock)
    await Wallet.raw(_DATED, dates, wallet.id, wallet.id, len(dates), wallet.id)
    newest_first = await Wallet.raw(
        'SELECT t.id, t.created_at FROM entry e JOIN "transaction" t ON t.id = e.transaction'
        " WHERE e.wallet = {} ORDER BY e.id DESC",
        wallet.id,
    )
    for known in (False, True):
        if known:
            assert await learn_dates() == 1
        for _ in range(100):
            since, until = (random.choice(dates) + timedelta(seconds=random.choice((-1, 0, 1))) for _ in range(2))
            asked: dict[str, datetime] = random.choice(
                ({"since": since}, {"until": until}, {"since": since, "until": until})
            )
            wanted = [
                row["id"]
                for row in newest_first
                if asked.get("since", EARLIEST) <= row["created_at"] < asked.get("until", LATEST)
            ]
            found, cursor = [], None
            while True:
                page = await history(wallet.id, limit=200, cursor=cursor, **asked)  # type: ignore[arg-type]
                found += [each.id for each in page.transactions]
                if not (cursor := page.next_cursor):
                    break
            assert found == wanted


async def test_what_payments_add_to_a_wrong_clock_is_added_to_what_is_known(database: str, redis_url: str) -> None:
    """PostgreSQL's clock was ahead when they were paid, three times and each time less, and is right again."""
    async with banks(1, redis_url) as (bank,):
        (wallet,) = await purses(1, holding="10.00", bank=bank)
        assert await learn_dates() == 1
        ahead = [timedelta(days=days) for days in (40, 3, 1)]
        for each in ahead:
            await Wallet.raw('UPDATE "wallet" SET last_entry_at = last_entry_at + {} WHERE id = {}', each, wallet.id)
            await bank.perform(wallet.deposit("1.00"))
        (row,) = await Wallet.raw("SELECT dates_went_back FROM wallet WHERE id = {}", wallet.id)
        assert sum(ahead, timedelta(0)) <= row["dates_went_back"] <= sum(ahead, timedelta(minutes=5))
        assert await learn_dates() == 0


async def _read(database_url: str) -> int:
    """How many entries have been read by index, once nobody else is connected: what they did is counted then."""
    async with connected_alone(database_url) as connection:
        return int(await connection.fetchval("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'entry'"))
