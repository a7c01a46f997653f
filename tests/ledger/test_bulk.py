"""Bulks through one bank and through several: in order, once, all or none, and never in each other's way."""

import asyncio
from collections.abc import Awaitable, Iterable
from decimal import Decimal
from random import Random

import pytest
from asyncpg.exceptions import RaiseError

from actors.bank import Bank, Limits
from actors.engine.locks import Lease, Locks
from actors.orders import Bulk, Receipt
from actors.refusals import BulkRefused, IdempotencyKeyReused, Overloaded, Refusal
from db.tables import Entry, IdempotencyKey, Transaction
from tests.helpers.banks import NOBODY_LISTENS, answers, banks, codes, performed, receipts
from tests.helpers.postgres import assert_no_deadlock, held_up, poison_amount, until_waiting
from tests.helpers.purses import Purse, purse, purses
from tests.helpers.waiting import GIVE_UP_SECONDS, until

Outcomes = list[Receipt | Refusal]


async def all_told(asked: Iterable[Awaitable[Outcomes]]) -> list[Outcomes]:
    """What each of these bulks came to; a minute without an answer fails the test."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        return await asyncio.gather(*asked)


def made(outcomes: Iterable[Receipt | Refusal]) -> list[Receipt]:
    """The receipts among them."""
    return [each for each in outcomes if isinstance(each, Receipt)]


def ids(outcomes: Outcomes) -> list[object]:
    """The transactions, by position."""
    return [each.transaction.id if isinstance(each, Receipt) and each.transaction else None for each in outcomes]


async def total(wallets: Iterable[Purse]) -> Decimal:
    """What they hold together."""
    return sum([Decimal(await each.balance()) for each in wallets], Decimal(0))


@pytest.mark.parametrize("redis", [True, False], ids=["locked", "degraded"])
async def test_bulks_that_pay_each_others_senders_through_three_banks_lose_nothing_and_never_deadlock(
    database: str, redis_url: str, redis: bool
) -> None:
    async with banks(3, redis_url if redis else NOBODY_LISTENS, Limits(batch_max=120)) as three:
        circle = await purses(30, holding="1000.00", bank=three[0])
        chance = Random(5)
        asked: list[Awaitable[Outcomes]] = []
        singles: list[Awaitable[Receipt]] = []
        for _ in range(60):
            sender, *others = chance.sample(circle, 25)
            bulk = sender.send_all([("0.10", chance.choice(others)) for _ in range(50)], atomic=chance.random() < 0.5)
            asked.append(chance.choice(three).perform_all(bulk))
            singles.append(chance.choice(three).perform(others[0].send("0.10", others[1])))
        told, alone = await asyncio.gather(all_told(asked), answers(singles))
        assert sum(len(made(outcomes)) for outcomes in told) == 3000
        assert len(receipts(alone)) == 60
        assert await total(circle) == 30_000
    await assert_no_deadlock(database)


async def test_a_bulk_does_not_wait_for_the_redis_locks_of_those_it_pays(database: str, redis_url: str) -> None:
    elsewhere = Locks(redis_url, Lease(lease_seconds=60))
    async with banks(1, redis_url) as (bank,), elsewhere.running(lambda _: None):
        alice, bob, carol = await purses(3, holding="10.00", bank=bank)
        await bank.perform(carol.send("1.00", bob))  # his number is known now: she queues for him, too
        tokens: list[str] = []

        async def taken() -> bool:
            token, missed = await elsewhere.take([bob.id])
            tokens.append(token)
            return not missed

        await until(taken)  # the bank gives it back in the background
        single = asyncio.create_task(bank.perform(carol.send("1.00", bob)))
        assert len(made(await bank.perform_all(alice.send_all([("1.00", bob), ("1.00", carol)])))) == 2
        assert not single.done()
        elsewhere.release_soon([bob.id], tokens[-1])
        assert str((await single).balance_after) == "9.00"


async def test_a_bulk_larger_than_a_batch_goes_alone_and_in_its_turn(database: str, redis_url: str) -> None:
    async with banks(1, redis_url, Limits(batch_max=7, lanes=2)) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        await bank.perform(bob.send("1.00", alice))
        await bank.perform(alice.send("1.00", bob))  # both numbers are known now: nobody waits for them
        first = asyncio.ensure_future(bank.perform(alice.send("1.00", bob)))
        whole = asyncio.ensure_future(bank.perform_all(alice.send_all([("1.00", bob)] * 50)))
        last = await performed(bank, [alice.withdraw("49.00"), alice.withdraw("0.01")])
        assert str((await first).balance_after) == "99.00"
        assert [str(each.balance_after) for each in made(await whole)] == [f"{98 - n}.00" for n in range(50)]
        assert (len(receipts(last)), codes(last)) == (1, {"insufficient_funds"})
        balances = await Entry.select(Entry.balance_after).where(Entry.wallet == alice.id).order_by(Entry.id)
        assert [str(row["balance_after"]) for row in balances][3:] == [f"{99 - n}.00" for n in range(51)] + ["0.00"]


async def test_a_full_mailbox_refuses_a_bulk_by_its_orders(database: str, redis_url: str) -> None:
    async with banks(1, redis_url, Limits(wallet_mailbox_max=10)) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        async with held_up(database, alice):
            under_way = asyncio.create_task(bank.perform(alice.withdraw("1.00")))
            await until_waiting(database)
            accepted = asyncio.create_task(bank.perform_all(alice.send_all([("1.00", bob)] * 8)))
            await asyncio.sleep(0)
            for _ in range(2):
                with pytest.raises(Overloaded):
                    await bank.perform_all(alice.send_all([("1.00", bob)] * 3))
        assert len(made(await accepted)) == 8
        await under_way
        assert await alice.balance() == "91.00"


async def test_a_poisoned_transfer_fails_its_bulk_as_a_whole_and_nobody_elses(database: str, redis_url: str) -> None:
    await poison_amount(database)
    async with banks(1, redis_url) as (bank,):
        many = await purses(6, holding="100.00", bank=bank)
        target = many.pop()
        bulks = [
            each.send_all([("1.00", target), ("13.13" if place == 3 else "1.00", target)], f"k{place}")
            for place, each in enumerate(many)
        ]
        async with asyncio.timeout(GIVE_UP_SECONDS):
            came_to = await asyncio.gather(*map(bank.perform_all, bulks), return_exceptions=True)
        assert isinstance(came_to.pop(3), RaiseError)
        assert [len(made(each)) for each in came_to if isinstance(each, list)] == [2] * 4
        assert [await each.balance() for each in many] == ["98.00", "98.00", "98.00", "100.00", "98.00"]


@pytest.mark.parametrize("redis", [True, False], ids=["locked", "degraded"])
@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "each"])
async def test_one_key_through_two_banks_at_once_moves_money_once_and_reads_the_same(
    database: str, redis_url: str, redis: bool, atomic: bool
) -> None:
    async with banks(2, redis_url if redis else NOBODY_LISTENS) as both:
        alice, bob, carol = await purses(3, holding="100.00", bank=both[0])
        for number in range(15):
            wishes = [("1.00", bob), ("1.50", carol), ("2.50", bob)]
            told = await all_told(
                both[n % 2].perform_all(alice.send_all(wishes, f"k{number}", atomic=atomic)) for n in range(6)
            )
            assert len({tuple(ids(outcomes)) for outcomes in told}) == 1
            assert len({tuple(each.balance_after for each in made(outcomes)) for outcomes in told}) == 1
            assert sum(not each.replayed for outcomes in told for each in made(outcomes)) == 3
        assert [await each.balance() for each in (alice, bob, carol)] == ["25.00", "152.50", "122.50"]
        assert await IdempotencyKey.count() == 15


@pytest.mark.parametrize("kind", ["single", "bulk"])
async def test_what_took_everything_is_not_refused_to_whoever_asked_at_the_same_moment(
    database: str, kind: str
) -> None:
    """The second bank has read that the key is free, and gets the row when the first one has emptied the wallet."""
    async with banks(2, NOBODY_LISTENS) as both:
        alice, bob = await purses(2, holding="10.00", bank=both[0])

        async def ask(bank: Bank) -> Outcomes:
            if kind == "single":
                return [await bank.perform(alice.send("10.00", bob, "k"))]
            return await bank.perform_all(alice.send_all([("4.00", bob), ("6.00", bob)], "k"))

        async with held_up(database, alice):
            asked = [asyncio.create_task(ask(bank)) for bank in both]
            await until_waiting(database)
        one, other = await all_told(asked)
        assert ids(one) == ids(other)
        assert sorted(each.replayed for each in [*made(one), *made(other)]) == [False] * len(one) + [True] * len(one)
        assert await alice.balance() == "0.00"


async def test_a_key_that_races_across_two_wallets_of_one_person_moves_money_from_exactly_one(database: str) -> None:
    async with banks(2, NOBODY_LISTENS) as both:
        tenge, bob = await purses(2, holding="100.00", bank=both[0])
        dollars = await purse("USD", owner=tenge.owner)
        his = await purse("USD", owner=bob.owner)
        await both[0].perform(dollars.deposit("100.00"))
        for number in range(30):
            pair: list[Bulk] = [
                sender.send_all([("1.00", to)] * 2, f"k{number}") for sender, to in ((tenge, bob), (dollars, his))
            ]
            came_to = await asyncio.gather(
                *(bank.perform_all(bulk) for bank, bulk in zip(both, pair, strict=True)), return_exceptions=True
            )
            assert sorted(type(each).__name__ for each in came_to) == ["IdempotencyKeyReused", "list"]
        assert await total([tenge, dollars]) == 200 - 30 * 2


async def test_what_was_refused_is_tried_again_and_made_once_by_whoever_repeats_it(
    database: str, redis_url: str
) -> None:
    async with banks(2, NOBODY_LISTENS) as both:
        alice, bob = await purses(2, holding="10.00", bank=both[0])
        wishes = [("4.00", bob), ("20.00", bob), ("6.00", bob)]
        first = await both[0].perform_all(alice.send_all(wishes, "k"))
        assert [type(each).__name__ for each in first] == ["Receipt", "InsufficientFunds", "Receipt"]
        await both[1].perform(alice.deposit("25.00"))
        told = await all_told(both[n % 2].perform_all(alice.send_all(wishes, "k")) for n in range(6))
        assert len({tuple(ids(outcomes)) for outcomes in told}) == 1
        assert [ids(told[0])[place] for place in (0, 2)] == [ids(first)[place] for place in (0, 2)]
        assert [each.replayed for outcomes in told for each in made(outcomes)].count(False) == 1
        assert [str(each.balance_after) for each in made(told[0])] == ["6.00", "5.00", "0.00"]
        assert (await alice.balance(), await bob.balance()) == ("5.00", "40.00")
        assert (await IdempotencyKey.count(), await Transaction.count()) == (1, 6)


async def test_a_key_is_for_a_bulk_or_for_a_single_transfer(database: str, redis_url: str) -> None:
    async with banks(1, redis_url) as (bank,):
        alice, bob, carol = await purses(3, holding="10.00", bank=bank)
        await bank.perform(alice.send("1.00", bob, "single"))
        await bank.perform_all(alice.send_all([("1.00", bob)], "bulk"))
        with pytest.raises(IdempotencyKeyReused):
            await bank.perform(alice.send("1.00", bob, "bulk"))
        for wishes, key in (
            ([("1.00", bob)], "single"),
            ([("1.00", carol)], "bulk"),
            ([("1.00", carol), ("1.00", bob)], "bulk"),
            ([("1.00", bob), ("1.00", carol)], "bulk"),
        ):
            for atomic in (False, True):
                with pytest.raises(IdempotencyKeyReused):
                    await bank.perform_all(alice.send_all(wishes, key, atomic=atomic))
        assert await alice.balance() == "8.00"


async def test_an_atomic_bulk_that_is_refused_leaves_the_rest_of_its_batch_as_it_is(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="10.00", bank=bank)
        await bank.perform(bob.send("1.00", alice))
        await bank.perform(alice.send("1.00", bob))  # both numbers are known now: nobody waits for them
        async with held_up(database, bob):  # so that the next ones share a batch
            wait = asyncio.create_task(bank.perform(bob.deposit("1.00")))
            await until_waiting(database)
            before = asyncio.create_task(bank.perform(alice.send("4.00", bob)))
            refused = asyncio.create_task(bank.perform_all(alice.send_all([("3.00", bob)] * 3, atomic=True)))
            after = asyncio.create_task(bank.perform_all(alice.send_all([("3.00", bob)] * 2, "k", atomic=True)))
        with pytest.raises(BulkRefused) as told:
            await refused
        assert [place for place, _ in told.value.refused] == [2]
        assert str((await before).balance_after) == "6.00"
        assert [str(each.balance_after) for each in made(await after)] == ["3.00", "0.00"]
        await wait
        assert (await alice.balance(), await bob.balance()) == ("0.00", "21.00")
