"""The bank on a real database: what everyone fears, one sentence each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
from asyncpg.exceptions import RaiseError, UniqueViolationError
from msgspec.structs import replace
from prometheus_client import REGISTRY

from actors.bank import Bank, Limits
from actors.orders import ChargeFee, Order, Receipt, Withdraw, new_id
from actors.refusals import DatabaseUnavailable, Overloaded, Refusal, TooLate, WalletNotFound
from actors.rules.apply import fingerprint
from db import trouble
from db.engine import Pool, connection_pool
from db.tables import Entry, IdempotencyKey, Message, Transaction
from tests.helpers.banks import NOBODY_LISTENS, answers, banks, codes, performed, receipts, stoppable
from tests.helpers.postgres import (
    assert_audit,
    assert_no_deadlock,
    connected,
    held_up,
    poison_amount,
    row_held,
    until_waiting,
)
from tests.helpers.purses import Purse, purse, purses
from tests.helpers.waiting import GIVE_UP_SECONDS


async def test_crossing_transfers_through_two_banks_lose_nothing_and_never_deadlock(
    database: str, redis_url: str
) -> None:
    async with banks(2, redis_url) as (left, right):
        alice, bob = await purses(2, holding="1000.00", bank=left)
        both = [alice.send("1.00", bob) for _ in range(300)] + [bob.send("2.00", alice) for _ in range(300)]
        Random(1).shuffle(both)
        came_to = await answers([(left, right)[place % 2].perform(order) for place, order in enumerate(both)])
        assert len(receipts(came_to)) == 600
        assert (await alice.balance(), await bob.balance()) == ("1300.00", "700.00")
    await assert_no_deadlock(database)


async def test_crossing_transfers_on_row_locks_alone_lose_nothing_either(database: str) -> None:
    async with banks(3, NOBODY_LISTENS) as three:
        circle = await purses(5, holding="100.00", bank=three[0])
        chance = Random(2)
        pairs = [chance.sample(circle, 2) for _ in range(400)]
        came_to = await answers([chance.choice(three).perform(sender.send("1.00", to)) for sender, to in pairs])
        assert len(receipts(came_to)) == 400
        assert sum([Decimal(await each.balance()) for each in circle]) == 500


async def test_of_64_withdrawals_of_the_whole_balance_exactly_one_happens(database: str, redis_url: str) -> None:
    async with banks(2, redis_url) as both:
        (alice,) = await purses(1, holding="77.77", bank=both[0])
        came_to = await answers([both[n % 2].perform(alice.withdraw("77.77")) for n in range(64)])
        assert len(receipts(came_to)) == 1
        assert codes(came_to) == {"insufficient_funds"}
        assert await alice.balance() == "0.00"


@pytest.mark.parametrize("redis", [True, False], ids=["locked", "degraded"])
async def test_forty_requests_with_one_key_through_two_banks_move_money_once_and_read_the_same(
    database: str, redis_url: str, redis: bool
) -> None:
    async with banks(2, redis_url if redis else NOBODY_LISTENS) as both:
        (alice, bob) = await purses(2, holding="100.00", bank=both[0])
        came_to = receipts(await answers([both[n % 2].perform(alice.send("30.00", bob, "k")) for n in range(40)]))
        assert len(came_to) == 40
        assert sum(not receipt.replayed for receipt in came_to) == 1
        assert len({(receipt.transaction, receipt.balance_after, receipt.receiver_number) for receipt in came_to}) == 1
        assert (await alice.balance(), await bob.balance()) == ("70.00", "130.00")


async def test_a_key_that_was_used_for_another_body_wallet_or_route_is_refused_and_moves_nothing(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url) as (bank,):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        dollars = await purse("USD", owner=alice.owner)
        first = await bank.perform(alice.withdraw("10.00", "k"))
        others: list[Order] = [
            alice.withdraw("20.00", "k"),
            dollars.withdraw("10.00", "k"),
            alice.deposit("10.00", "k"),
            alice.send("10.00", dollars, "k"),
        ]
        came_to = await performed(bank, others)
        assert (receipts(came_to), codes(came_to)) == ([], {"idempotency_key_reused"})
        assert (await bank.perform(alice.withdraw("10.00", "k"))).transaction == first.transaction
        assert await alice.balance() == "90.00"


@asynccontextmanager
async def key_in_use(database_url: str, bank: Bank, order: Withdraw) -> AsyncIterator[None]:
    """Another process has just carried out this order under its key; its commit comes when the block ends."""
    done = await bank.perform(replace(order, id=new_id(), key=None))
    assert order.key
    assert done.transaction
    async with connected(database_url) as other, other.transaction():
        await other.execute(
            'INSERT INTO "idempotency_key" ("id", "user", "key", "fingerprint", "transaction", "balance_after")'
            " VALUES ($1, $2, $3, $4, $5, $6)",
            *(order.key.id, order.key.user_id, order.key.key, fingerprint(order)),
            *(done.transaction.id, done.balance_after),
        )
        yield


async def test_one_key_used_at_one_moment_for_two_wallets_moves_money_in_exactly_one(database: str) -> None:
    """The bank has read that the key is free, and is told by the index that another process is just using it."""
    async with banks(1, NOBODY_LISTENS) as (bank,):
        (tenge,) = await purses(1, holding="50.00", bank=bank)
        dollars = await purse("USD", owner=tenge.owner)
        async with key_in_use(database, bank, tenge.withdraw("5.00", "k")):
            late = asyncio.create_task(bank.perform(dollars.deposit("5.00", "k")))
            await until_waiting(database)
        assert codes(await answers([late])) == {"idempotency_key_reused"}
        assert (await tenge.balance(), await dollars.balance()) == ("45.00", "0.00")
        assert await IdempotencyKey.count() == 1


async def test_a_key_that_somebody_is_about_to_use_is_waited_for_by_its_batch_alone(
    database_url: str, redis_url: str
) -> None:
    async with connection_pool(Pool(lock_timeout_seconds=0.3)), banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="50.00", bank=bank)
        order = alice.withdraw("5.00", "k")
        async with key_in_use(database_url, bank, order):
            late = asyncio.create_task(bank.perform(order))
            await until_waiting(database_url)
            assert isinstance(await bank.perform(bob.withdraw("1.00")), Receipt)
            assert [type(answer) for answer in await answers([late])] == [DatabaseUnavailable]
        assert (await bank.perform(order)).replayed
        await assert_audit()


async def test_a_bulk_that_pays_wallets_which_others_use_all_the_time_is_made(database: str) -> None:
    """Where Redis is gone two banks meet at rows: whoever only looks whether all are free could look for ever."""
    async with banks(2, NOBODY_LISTENS, Limits(deadline_seconds=60)) as (left, right):
        payer, *many = await purses(60, holding="1000.00", bank=left)
        over = False

        async def use(mine: Purse, to: Purse) -> None:
            while not over:
                await right.perform(mine.send("0.01", to))

        using = [asyncio.create_task(use(*pair)) for pair in zip(many, many[1:] + many[:1], strict=True)]
        for _ in range(5):
            assert len(await left.perform_all(payer.send_all([("0.01", each) for each in many] * 5))) == 59 * 5
        over = True
        await asyncio.gather(*using)
    await assert_no_deadlock(database)


async def test_who_needs_a_row_that_is_handed_from_one_to_the_next_stands_in_the_queue_too(
    database: str, redis_url: str
) -> None:
    """It is free at no moment, so whoever only looks whether it is will never have it."""
    async with banks(1, redis_url, Limits(deadline_seconds=10)) as (bank,):
        alice, bob = await purses(2, holding="10.00", bank=bank)
        over = False

        async def hold_again_and_again() -> None:
            async with connected(database) as connection:
                while not over:
                    async with connection.transaction():
                        await connection.execute('SELECT FROM "wallet" WHERE "id" = $1 FOR UPDATE', alice.id)
                        await connection.execute("SELECT pg_sleep(0.02)")

        holding = [asyncio.create_task(hold_again_and_again()) for _ in range(4)]
        await until_waiting(database, 3)
        try:
            orders: list[Order] = []
            for _ in range(3):
                orders += [alice.withdraw("1.00"), bob.send("1.00", alice), alice.send("1.00", bob)]
            assert len(receipts(await performed(bank, orders))) == 9
        finally:
            over = True
            await asyncio.gather(*holding)


async def test_keys_that_race_across_wallets_move_money_in_exactly_one(database: str, redis_url: str) -> None:
    async with banks(2, NOBODY_LISTENS) as both:
        (tenge,) = await purses(1, holding="1.00", bank=both[0])
        dollars = await purse("USD", owner=tenge.owner)
        for number in range(40):
            pair = [tenge.deposit("1.00", f"k{number}"), dollars.deposit("1.00", f"k{number}")]
            came_to = await answers([bank.perform(order) for bank, order in zip(both, pair, strict=True)])
            assert (len(receipts(came_to)), codes(came_to)) == (1, {"idempotency_key_reused"})


async def test_a_poisoned_order_fails_alone_within_its_batch(database: str, redis_url: str) -> None:
    await poison_amount(database)
    async with banks(1, redis_url) as (bank,):
        many = await purses(10, holding="100.00", bank=bank)
        orders = [many[n % 10].withdraw("13.13" if n == 31 else "1.00") for n in range(50)]
        came_to = await answers([bank.perform(order) for order in orders])
        assert isinstance(came_to.pop(31), RaiseError)
        assert len(receipts(came_to)) == 49
        assert [await each.balance() for each in many] == ["95.00", "96.00", *["95.00"] * 8]


async def test_an_order_that_is_overtaken_for_ever_fails_alone_and_soon(database: str, redis_url: str) -> None:
    await poison_amount(database, error="unique_violation")
    async with banks(1, redis_url, Limits(deadline_seconds=3600)) as (bank,):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        async with asyncio.timeout(GIVE_UP_SECONDS):  # where it is tried again and again, fail instead of hanging
            came_to = await answers([bank.perform(alice.withdraw(amount)) for amount in ("1.00", "13.13", "2.00")])
        assert isinstance(came_to.pop(1), UniqueViolationError)
        assert len(receipts(came_to)) == 2
        assert await alice.balance() == "97.00"


async def test_a_bug_of_ours_is_told_to_those_who_wait_and_the_bank_goes_on(database: str, redis_url: str) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    async with banks(1, redis_url) as (bank,):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        rates, bank._rates = bank._rates, broken
        async with asyncio.timeout(GIVE_UP_SECONDS):  # where nobody is told, fail instead of hanging
            came_to = await answers([bank.perform(alice.withdraw("1.00")) for _ in range(3)])
        assert [type(each) for each in came_to] == [ZeroDivisionError] * 3
        bank._rates = rates
        await bank.perform(alice.withdraw("1.00"))
        assert await alice.balance() == "99.00"


async def test_refusals_in_a_batch_do_not_disturb_the_others(database: str, redis_url: str) -> None:
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="10.00", bank=bank)
        stranger = await purse()
        orders: list[Order] = []
        for _ in range(20):
            orders += [alice.withdraw("0.25"), alice.withdraw("99.00"), alice.send("0.25", alice), bob.deposit("1.00")]
        orders += [stranger.send("1.00", bob), ChargeFee(wallet_id=4711, due_at=datetime.now(UTC))]
        came_to = await performed(bank, orders)
        assert len(receipts(came_to)) == 40
        assert codes(came_to) == {"insufficient_funds", "same_wallet", "wallet_not_found"}
        assert (await alice.balance(), await bob.balance()) == ("5.00", "30.00")


async def test_orders_of_one_wallet_happen_in_the_order_in_which_they_were_given(database: str, redis_url: str) -> None:
    async with banks(1, redis_url, Limits(lanes=3, batch_max=7)) as (bank,):
        alice, bob = await purses(2, holding="1.00", bank=bank)
        pairs = [order for _ in range(50) for order in (alice.send("1.00", bob), bob.send("2.00", alice))]
        fill = [order for _ in range(50) for order in (alice.withdraw("1.00"), alice.deposit("1.00"))]
        assert len(receipts(await performed(bank, fill))) == 100, "each needs the one before it"
        came_to = await performed(bank, pairs)
        assert receipts(came_to)
        assert codes(came_to) <= {"insufficient_funds"}


async def test_what_has_waited_past_its_deadline_is_answered_so_and_never_carried_out(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url, Limits(deadline_seconds=2)) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        async with held_up(database, alice):
            first = asyncio.create_task(bank.perform(alice.withdraw("1.00")))
            await until_waiting(database)
            late = await answers(
                [bank.perform(alice.withdraw("10.00")) for _ in range(5)] + [bank.perform(bob.deposit("1.00"))]
            )
            assert (receipts(late), codes(late)) == ([], {"overloaded"})
        assert isinstance(await first, Receipt), "what is being carried out already is not given up"
        assert isinstance(await bank.perform(bob.deposit("5.00")), Receipt)
        assert (await alice.balance(), await bob.balance()) == ("99.00", "105.00")


@pytest.mark.parametrize("redis", [True, False], ids=["locked", "degraded"])
async def test_a_row_that_somebody_outside_holds_costs_only_those_who_need_it(
    database: str, redis_url: str, redis: bool
) -> None:
    """They wait in their boxes, in order; a number that somebody holds is not one that nobody has."""
    async with banks(1, redis_url if redis else NOBODY_LISTENS, Limits(deadline_seconds=60)) as (bank,):
        many = await purses(8, holding="10.00", bank=bank)
        alice, others = many[0], many[1:]
        async with row_held(database, alice):
            orders: list[Order] = [alice.withdraw("1.00"), others[0].send("1.00", alice), alice.send("1.00", others[1])]
            waiting = [asyncio.create_task(bank.perform(order)) for order in orders]
            waiting.append(asyncio.create_task(bank.perform(others[0].withdraw("0.50"))))  # behind what she sends
            bulk = asyncio.create_task(bank.perform_all(others[1].send_all([("0.10", each) for each in many[2:4]] * 9)))
            held = asyncio.create_task(bank.perform_all(others[2].send_all([("0.10", each) for each in many])))
            for _ in range(20):
                served = await performed(bank, [each.withdraw("0.10") for each in (*others[3:], *others[3:])])
                assert len(receipts(served)) == 8
            assert len(await bulk) == 18
            assert not any(task.done() for task in (*waiting, held))
        came_to = receipts(await answers(waiting))
        assert [str(each.balance_after) for each in came_to] == ["9.00", "9.00", "9.00", "8.50"] or len(came_to) == 4
        assert len(await held) == 8


async def test_who_waits_for_a_held_row_is_told_so_when_the_time_is_over(database: str, redis_url: str) -> None:
    async with banks(1, redis_url, Limits(deadline_seconds=2)) as (bank,):
        alice, bob = await purses(2, holding="10.00", bank=bank)
        async with row_held(database, alice):
            late = asyncio.gather(
                bank.perform(alice.withdraw("1.00")), bank.perform(bob.send("1.00", alice)), return_exceptions=True
            )
            assert [type(answer) for answer in await late] == [TooLate, TooLate]
            await bank.perform(bob.withdraw("1.00"))
        await bank.perform(alice.deposit("1.00"))
        assert (await alice.balance(), await bob.balance()) == ("11.00", "9.00")


async def test_an_order_whose_deadline_passes_between_two_attempts_is_not_carried_out(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url, Limits(deadline_seconds=2)) as (bank,), connected(database) as outside:
        alice, bob = await purses(2, holding="10.00", bank=bank)
        async with held_up(database, alice):
            asked = asyncio.create_task(performed(bank, [alice.withdraw("1.00"), bob.withdraw("1.00")]))
            await until_waiting(database)
            await asyncio.sleep(2)
            await outside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            assert [type(answer) for answer in await asked] == [TooLate, TooLate]
        assert (await alice.balance(), await bob.balance()) == ("10.00", "10.00")


@pytest.mark.parametrize("table", ["wallet", "entry", "transaction", "idempotency_key"])
async def test_while_somebody_has_locked_a_table_everybody_is_told_so_and_then_service_resumes(
    database_url: str, redis_url: str, table: str
) -> None:
    async with (
        connection_pool(Pool(lock_timeout_seconds=0.1)),
        banks(1, redis_url) as (bank,),
        connected(database_url) as outside,
    ):
        many = await purses(8, holding="10.00", bank=bank)
        async with outside.transaction():
            await outside.execute(f'LOCK TABLE "{table}"')
            came_to = await performed(bank, [each.withdraw("1.00", "k") for each in many])
            assert [type(answer) for answer in came_to] == [DatabaseUnavailable] * 8
            assert trouble.of_late() == "Somebody else has locked what is needed."  # so readiness says it
        assert len(receipts(await performed(bank, [each.withdraw("1.00", "k") for each in many]))) == 8
        assert trouble.of_late() is None
        await assert_audit()


CANNOT_SERVE = (
    "25006",
    "3F000",
    "40001",
    "40P01",
    "42501",
    "42P01",
    "53100",
    "53200",
    "53300",
    "53400",
    "55000",
    "55P03",
    "57014",
    "58030",
    "F0000",
)


@pytest.mark.parametrize("moment", ["INITIALLY IMMEDIATE", "INITIALLY DEFERRED"], ids=["save", "commit"])
async def test_what_concerns_the_whole_database_is_told_to_all_at_once_and_is_no_doubt(
    database: str, redis_url: str, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with banks(1, redis_url) as (bank,), connected(database) as outside:
        many = await purses(8, holding="10.00", bank=bank)
        for code in CANNOT_SERVE:
            await outside.execute(
                f"""
                CREATE FUNCTION cannot_serve() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'cannot serve' USING ERRCODE = '{code}'; END $$;
                CREATE CONSTRAINT TRIGGER cannot_serve AFTER INSERT ON "transaction" DEFERRABLE {moment}
                FOR EACH ROW EXECUTE FUNCTION cannot_serve()
                """
            )
            with caplog.at_level("ERROR"):
                came_to = await performed(bank, [each.withdraw("1.00", code) for each in many])
            assert [type(answer) for answer in came_to] == [DatabaseUnavailable] * 8, code
            await outside.execute('DROP TRIGGER cannot_serve ON "transaction"; DROP FUNCTION cannot_serve()')
            again = receipts(await performed(bank, [each.withdraw("0.10", code) for each in many]))
            assert len(again) == 8
            assert not any(receipt.replayed for receipt in again)
    assert caplog.records == []


async def test_sessions_that_were_read_only_do_not_stay_so(database: str, redis_url: str) -> None:
    """After a switch-over: the database is writable again, and what was connected before would never learn of it."""
    name = database.rsplit("/", 1)[1]
    async with banks(1, redis_url) as (bank,), connected(database) as outside:
        many = await purses(8, holding="10.00", bank=bank)
        await outside.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await outside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(3):
            came_to = await performed(bank, [each.withdraw("1.00", "k") for each in many])
            assert [type(answer) for answer in came_to] == [DatabaseUnavailable] * 8
        await outside.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        assert len(receipts(await performed(bank, [each.withdraw("1.00", "k") for each in many]))) == 8


@pytest.mark.parametrize("limits", [Limits(mailbox_max=5), Limits(wallet_mailbox_max=5)], ids=["process", "wallet"])
async def test_a_full_mailbox_refuses_at_once_and_works_on_what_it_has(
    database: str, redis_url: str, limits: Limits
) -> None:
    async with banks(1, redis_url, limits) as (bank,):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        async with held_up(database, alice):
            accepted = [asyncio.create_task(bank.perform(alice.withdraw("1.00")))]
            await until_waiting(database)
            accepted += [asyncio.create_task(bank.perform(alice.withdraw("1.00"))) for _ in range(5)]
            await asyncio.sleep(0)
            for _ in range(3):
                with pytest.raises(Overloaded):
                    await bank.perform(alice.withdraw("1.00"))
            assert not any(task.done() for task in accepted)
        assert len(receipts(await answers([*accepted]))) == 6
        assert await alice.balance() == "94.00"


async def test_a_stopping_bank_answers_all_that_it_accepted_and_accepts_no_more(database: str, redis_url: str) -> None:
    async with stoppable(redis_url, Limits(batch_max=3)) as (bank, stop):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        async with held_up(database, alice):
            accepted = [asyncio.create_task(bank.perform(alice.withdraw("1.00"))) for _ in range(20)]
            await until_waiting(database)
            stopping = asyncio.ensure_future(stop())
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await bank.perform(alice.withdraw("1.00"))
        assert len(receipts(await answers([*accepted]))) == 20
        await stopping
        assert await alice.balance() == "80.00"


async def test_a_bank_that_must_stop_before_its_work_is_done_leaves_nobody_without_an_answer(
    database: str, redis_url: str
) -> None:
    async with stoppable(redis_url, Limits(batch_max=3, drain_seconds=0.1)) as (bank, stop):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        async with held_up(database, alice):
            accepted = [asyncio.create_task(bank.perform(alice.withdraw("1.00"))) for _ in range(10)]
            await until_waiting(database)
            await stop()
            done, left = await asyncio.wait(accepted, timeout=60)
            for task in left:
                task.cancel()
            assert not left
            came_to = await answers([*done])
        told = [answer for answer in came_to if isinstance(answer, Refusal)]
        assert len(told) == 10
        assert await alice.balance() == "100.00"


async def test_an_order_whose_asker_has_gone_is_carried_out_all_the_same_and_only_once(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        async with held_up(database, alice):
            asked = [asyncio.create_task(bank.perform(alice.withdraw("1.00", f"k{n}"))) for n in range(10)]
            await until_waiting(database)
            for task in asked[::2]:
                task.cancel()
        await answers([*asked])
        await bank.perform(bob.deposit("1.00"))
        assert await alice.balance() == "90.00"
        again = receipts(await answers([bank.perform(alice.withdraw("1.00", f"k{n}")) for n in range(10)]))
        assert [receipt.replayed for receipt in again] == [True] * 10
        assert await alice.balance() == "90.00"


async def test_a_fee_that_two_banks_charge_at_one_moment_is_charged_once(database: str) -> None:
    due = datetime.now(UTC) - timedelta(hours=1)
    async with banks(2, NOBODY_LISTENS) as both:
        for _ in range(20):
            alice = await purse(fee_due_at=due)
            await both[0].perform(alice.deposit("1000.00"))
            order = ChargeFee(wallet_id=alice.id, due_at=(await alice.row())["fee_due_at"])
            came_to = receipts(await answers([bank.perform(order) for bank in both]))
            assert sum(receipt.transaction is not None for receipt in came_to) == 1
            assert await alice.balance() == "800.00"


async def test_money_that_unblocks_a_wallet_while_its_fee_is_charged_elsewhere_pays_it_once(database: str) -> None:
    due = datetime.now(UTC) - timedelta(hours=1)
    async with banks(2, NOBODY_LISTENS) as both:
        for number in range(20):
            alice = await purse(fee_due_at=due, blocked=number % 2 == 0)
            order = ChargeFee(wallet_id=alice.id, due_at=(await alice.row())["fee_due_at"])
            await answers([both[0].perform(order), both[1].perform(alice.deposit("500.00"))])
            assert await alice.balance() in {"300.00", "500.00"}
            await both[0].perform(order)
            assert await alice.balance() == "300.00"
            assert (
                await Transaction.count().where(
                    (Transaction.operation_type == "FEE") & (Transaction.sender == alice.id)
                )
                == 1
            )
        assert await Message.count() == len(await Message.select(Message.event).distinct())


async def test_each_entry_of_a_batch_tells_the_balance_at_its_place(database: str, redis_url: str) -> None:
    async with banks(1, redis_url) as (bank,):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        came_to = receipts(await answers([bank.perform(alice.withdraw("1.00")) for _ in range(30)]))
        balances = await Entry.select(Entry.balance_after).where(Entry.wallet == alice.id).order_by(Entry.id)
        assert [str(row["balance_after"]) for row in balances] == [f"{100 - n}.00" for n in range(31)]
        assert [str(receipt.balance_after) for receipt in came_to] == [f"{99 - n}.00" for n in range(30)]


async def test_a_number_that_nobody_has_is_refused_and_found_once_it_is_there(database: str, redis_url: str) -> None:
    async with banks(1, redis_url) as (bank,):
        (alice,) = await purses(1, holding="100.00", bank=bank)
        bob = await purse()
        for missing in ("0000000001", "9999999999", "x", "", "' OR 1=1 --"):
            with pytest.raises(WalletNotFound):
                await bank.perform(replace(alice.send("1.00", bob), receiver_number=missing))
        assert (await bank.perform(alice.send("1.00", bob))).receiver_number == bob.number


@pytest.mark.parametrize("redis", [True, False], ids=["locked", "degraded"])
async def test_banks_that_remember_one_number_at_a_time_lose_nothing_and_never_deadlock(
    database: str, redis_url: str, redis: bool
) -> None:
    forgetful = Limits(numbers_max=1, lanes=2, batch_max=20)
    async with banks(3, redis_url if redis else NOBODY_LISTENS, forgetful) as three:
        circle = await purses(12, holding="1000.00", bank=three[0])
        chance = Random(8)
        asked: list[Awaitable[Receipt]] = []
        for _ in range(1500):
            sender, to = chance.sample(circle, 2)
            asked.append(chance.choice(three).perform(sender.send("1.00", to)))
            if chance.random() < 0.1:  # to a number of whose wallet nobody knows yet that it is the sender's own
                asked.append(chance.choice(three).perform(sender.send("1.00", sender)))
        came_to = await answers(asked)
        assert codes(came_to) == {"same_wallet"}
        assert len(receipts(came_to)) == 1500
        assert sum([Decimal(await each.balance()) for each in circle]) == 12_000
    await assert_no_deadlock(database)


async def test_an_order_is_counted_in_one_batch_however_often_its_wallet_is_missed(
    database: str, redis_url: str
) -> None:
    names = ("wallet_batch_orders_sum", "wallet_mailbox_seconds_count", "wallet_wallets_missed_total")
    async with banks(2, redis_url) as (left, right):
        (alice,) = await purses(1, holding="1.00", bank=left)
        before = [REGISTRY.get_sample_value(name) or 0 for name in names]
        both = await asyncio.gather(
            *(performed(bank, [alice.deposit("1.00")]) for _ in range(100) for bank in (left, right))
        )
        assert sum(len(receipts(came_to)) for came_to in both) == 200
        in_batches, waited, missed = [
            (REGISTRY.get_sample_value(name) or 0) - was for name, was in zip(names, before, strict=True)
        ]
        assert (in_batches, waited) == (200, 200)
        assert missed > 0, "otherwise this has shown nothing"


async def test_connections_that_are_killed_in_the_middle_of_traffic_cost_answers_but_no_money(
    database: str, redis_url: str
) -> None:
    async with banks(2, redis_url, Limits(batch_max=20)) as both, connected(database) as killer:
        circle = await purses(10, holding="1000.00", bank=both[0])
        chance = Random(3)
        asked: list[tuple[Order, asyncio.Task[Receipt]]] = []
        for _ in range(30):
            for _ in range(20):
                sender, to = chance.sample(circle, 2)
                kinds: list[Order] = [sender.deposit("1.00"), sender.withdraw("1.00"), sender.send("1.00", to)]
                order = chance.choice(kinds)
                asked.append((order, asyncio.create_task(chance.choice(both).perform(order))))
            await asyncio.sleep(0.002)
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        came_to = await answers([task for _, task in asked])
        assert codes(came_to) <= {"database_unavailable"}
        told = {order.id for (order, _), answer in zip(asked, came_to, strict=True) if isinstance(answer, Receipt)}
        assert len(receipts(came_to)) == len(told)
        there = {row["id"] for row in await Transaction.select(Transaction.id)}
        refused = {
            order.id
            for (order, _), answer in zip(asked, came_to, strict=True)
            if type(answer) is DatabaseUnavailable  # and not `OutcomeUnknown`, which does not know
        }
        assert told
        assert told <= there
        assert refused.isdisjoint(there)
        assert (
            len(receipts(await answers([both[n % 2].perform(circle[n % 10].deposit("1.00")) for n in range(50)]))) == 50
        )
