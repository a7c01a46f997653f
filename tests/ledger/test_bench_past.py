"""What benchmarks load in a few statements must be as true to the ledger as if it had been moved."""

from random import Random

from bench.past import live_through
from bench.people import settle_in
from db.tables import Entry, Wallet
from tests.helpers.postgres import assert_audit


async def test_a_past_of_any_length_holds(database: str) -> None:
    """The ring may stop anywhere: before it is closed, when it closes, in a later round."""
    random = Random(7)
    await settle_in(5)
    for _ in range(40):
        wallets = 3 * random.randint(1, 7)
        transfers = random.randint(1, 5 * wallets)
        people, entries = await _count()
        past = await live_through(wallets=wallets, entries=2 * wallets + (transfers * 8 + 2) // 3)
        more_people, more_entries = await _count()
        payments = (transfers + 2) // 3
        assert more_people - people == wallets + 1
        assert more_entries - entries == 2 * (wallets + 1) + 2 * (transfers + payments)
        assert await Entry.count().where(Entry.wallet == past.merchant_id) == 1 + payments
        assert past.began_at < past.ended_at
    await assert_audit()


async def _count() -> tuple[int, int]:
    return await Wallet.count().where(Wallet.user.is_not_null()), await Entry.count()
