"""How PostgreSQL finds rows: by an index, also in tables that were empty when a statement was first prepared."""

from app.auth.revocations import Revocations
from app.auth.tokens import Lifetimes, Tokens
from app.http.parameters import EARLIEST, LATEST
from app.payments.history import history
from app.staff.money_forms import wallet_id_of
from app.wallets.views import wallet_of, wallets_of
from db import ledger
from db.engine import Pool, connection_pool
from db.tables import Wallet
from db.transaction import transaction
from tasks.settings import DEVELOPMENT_SECRET
from tests.helpers.banks import banks, performed, receipts
from tests.helpers.postgres import assert_audit, connected, connected_alone
from tests.helpers.purses import purses

_ROUNDS = 12  # PostgreSQL plans anew for each of the first five executions, and may keep a plan from then on


async def test_no_order_and_no_read_scans_a_table_not_even_one_that_was_empty_when_it_was_planned(
    database_url: str, redis_url: str
) -> None:
    async with connection_pool(Pool()), banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
    async with connected(database_url) as connection:
        await connection.execute("VACUUM (ANALYZE)")  # now PostgreSQL knows how small the tables are
    before = await _scans(database_url)

    async with connection_pool(Pool(min_size=1, max_size=1)), banks(1, redis_url) as (bank,):
        revocations = Revocations(Tokens(DEVELOPMENT_SECRET, Lifetimes()))
        for number in range(_ROUNDS):
            sent = [alice.send("1.00", bob, f"{number}-{each}") for each in range(5)]
            came_to = await performed(bank, [*sent, sent[0], bob.deposit("1.00"), bob.withdraw("1.00")])
            assert len(receipts(came_to)) == 8
            await wallets_of(alice.owner)
            await wallet_of(alice.owner, alice.id)
            await revocations.catch_up()
            await history(alice.id, limit=5, since=EARLIEST, until=LATEST)
            assert [await wallet_id_of(each.number) for each in (alice, bob)] == [alice.id, bob.id]
            async with transaction():
                assert await ledger.find([(order.id, alice.id) for order in sent])

        (planned,) = await Wallet.raw("SELECT sum(custom_plans)::int AS anew FROM pg_prepared_statements")
        assert planned["anew"] == 0, "a small batch is planned each time it comes, which takes as long as all else"

    assert await _scans(database_url) == before
    await assert_audit()  # last: proving everything is what reads everything


async def _scans(database_url: str) -> dict[str, int]:
    """How often each table was read from end to end, once nobody else is connected: what they did is counted then."""
    async with connected_alone(database_url) as connection:
        rows = await connection.fetch("SELECT relname, seq_scan FROM pg_stat_user_tables")
        return {row["relname"]: row["seq_scan"] for row in rows}
