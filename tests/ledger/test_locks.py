"""Locks across processes: fair, never for longer than their lease, and no condition for money to move."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from actors.bank import Bank
from actors.engine.locks import Lease, Locks
from app.proof.cable import cable
from db.servers.embedded import embedded_servers
from db.servers.process import Server
from tests.helpers.banks import NOBODY_LISTENS, answers, banks, receipts
from tests.helpers.postgres import held_up, until_waiting
from tests.helpers.purses import purse, purses
from tests.helpers.waiting import GIVE_UP_SECONDS, until

PATIENT = Lease(retry_seconds=3600, reservation_seconds=60, lease_seconds=60, answer_seconds=60)
"""Nothing here happens by a timer: what happens, somebody was told to do."""

IMPATIENT = replace(PATIENT, answer_seconds=1, probe_seconds=0.05)
"""But that a Redis which says nothing for a second is gone."""


@asynccontextmanager
async def two(redis_url: str, lease: Lease = PATIENT) -> AsyncIterator[tuple[Locks, Locks]]:
    """The locks of two processes."""
    async with AsyncExitStack() as stack:
        pair = Locks(redis_url, lease), Locks(redis_url, lease)
        for each in pair:
            await stack.enter_async_context(each.running(lambda _: None))
            await until(partial(_listens, redis_url, each))
        yield pair


async def _listens(redis_url: str, locks: Locks) -> bool:
    async with Redis.from_url(redis_url) as redis:
        return f"wallet:freed:{locks._owner}".encode() in await redis.pubsub_channels("wallet:freed:*")


class Freed:
    """What `on_freed` was told, and the moment it is told something."""

    def __init__(self, locks: Locks) -> None:
        self.told: list[set[int]] = []
        self.event = asyncio.Event()
        locks._on_freed = self

    def __call__(self, wallet_ids: Iterable[int]) -> None:
        self.told.append(set(wallet_ids))
        self.event.set()

    async def wait(self) -> list[set[int]]:
        """Five minutes without a word fail the test."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await self.event.wait()
        return self.told


async def take(locks: Locks, *wallet_ids: int) -> tuple[str, set[int]]:
    """Take them, and be sure that it was Redis that said so."""
    taken = await locks.take(wallet_ids)
    assert not locks.degraded
    return taken


async def test_what_one_process_holds_another_misses_and_takes_the_rest(redis_url: str) -> None:
    async with two(redis_url) as (left, right):
        token, missed = await take(left, 1, 2, 3)
        assert (bool(token), missed) == (True, set())
        assert (await take(right, 2, 3, 4, 5))[1] == {2, 3}
        assert (await take(left, 4, 5, 6))[1] == {4, 5}


@pytest.mark.parametrize("shards", [1, 7])
async def test_a_release_frees_all_that_was_taken_and_wakes_who_missed_it(redis_url: str, shards: int) -> None:
    async with two(redis_url, replace(PATIENT, shards=shards)) as (left, right):
        woken = Freed(right)
        ids = set(range(1, 40))
        token, _ = await take(left, *ids)
        assert (await take(right, *ids, 99))[1] == ids
        left.release_soon(ids, token)
        while set().union(*woken.told) != ids:
            woken.event.clear()
            await woken.wait()
        assert (await take(right, *ids))[1] == set()


async def test_who_was_not_waiting_is_not_woken(redis_url: str) -> None:
    async with two(redis_url) as (left, right):
        mine, theirs = Freed(left), Freed(right)
        token, _ = await take(left, 1, 2)
        assert (await take(right, 2))[1] == {2}
        await left._release_now([1, 2], token)
        assert await theirs.wait() == [{2}]
        assert mine.told == []


async def test_a_holder_that_comes_back_for_more_lets_the_one_who_waits_go_first(redis_url: str) -> None:
    async with two(redis_url) as (left, right):
        token, _ = await take(left, 1)
        assert (await take(right, 1))[1] == {1}
        assert (await take(left, 1))[1] == {1}, "even before it has released"
        await left._release_now([1], token)
        assert (await take(left, 1))[1] == {1}, "and after"
        token, missed = await take(right, 1)
        assert missed == set()
        await right._release_now([1], token)
        assert (await take(left, 1))[1] == set(), "the reservation was for once"


async def test_who_comes_later_waits_behind_who_came_before(redis_url: str) -> None:
    async with two(redis_url) as (first, second), two(redis_url) as (third, fourth):
        turns = [(each, Freed(each)) for each in (second, third, fourth)]
        token, _ = await take(first, 1)
        for _ in range(2):  # to ask again is not to come again
            for each, _ in turns:
                assert (await take(each, 1))[1] == {1}
        for place, (each, freed) in enumerate(turns):
            await (first, second, third)[place]._release_now([1], token)
            assert await freed.wait() == [{1}]
            for other in (first, *(other for other, _ in turns)):
                if other is not each:
                    assert (await take(other, 1))[1] == {1}, "it is kept for whose turn it is"
            token, missed = await take(each, 1)
            assert not missed
        assert [freed.told for _, freed in turns] == [[{1}]] * 3


async def test_a_wake_up_that_comes_before_the_answer_is_not_lost(redis_url: str) -> None:
    async def ask(locks: Locks) -> tuple[str, set[int], Freed]:
        token, missed = await take(locks, 1)
        return token, missed, Freed(locks)  # who learns only now what is missed has not heard what was told before

    async with two(redis_url) as (left, right):
        token, _ = await take(left, 1)
        for turn in range(300):
            holder, waiter = (left, right) if turn % 2 == 0 else (right, left)
            asked = asyncio.create_task(ask(waiter))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            await holder._release_now([1], token)
            token, missed, woken = await asked
            if missed:
                await woken.wait()
                token, missed = await take(waiter, 1)
            assert not missed


async def test_a_reservation_whose_owner_does_not_come_ends(redis_url: str) -> None:
    async with two(redis_url, replace(PATIENT, reservation_seconds=0.05)) as (left, right):
        token, _ = await take(left, 1)
        assert (await take(right, 1))[1] == {1}
        await left._release_now([1], token)

        async def had() -> bool:
            return not (await take(left, 1))[1]

        await until(had)


async def test_the_lock_of_a_process_that_died_is_free_when_its_lease_ends(redis_url: str) -> None:
    async with two(redis_url, replace(PATIENT, lease_seconds=2)) as (left, right):
        await take(left, 1)
        async with Redis.from_url(redis_url) as redis:
            for key in await redis.keys("wallet:lock:*"):
                assert 0 < await redis.pttl(key) <= 2000

        async def had() -> bool:
            return not (await take(right, 1))[1]

        await until(had)


async def test_an_old_release_does_not_free_a_newer_lock_of_the_same_process(redis_url: str) -> None:
    async with two(redis_url) as (left, right):
        old, _ = await take(left, 1)
        new, missed = await take(left, 1)
        assert missed == set()
        await left._release_now([1], old)
        assert (await take(right, 1))[1] == {1}
        await left._release_now([1], new)
        assert (await take(right, 1))[1] == set()


async def test_a_release_after_the_lease_ended_does_not_free_the_lock_of_another(redis_url: str) -> None:
    async with two(redis_url, replace(PATIENT, reservation_seconds=0.01)) as (left, right):
        token, _ = await take(left, 1)
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()  # as if the lease had ended
        assert (await take(right, 1))[1] == set()
        await left._release_now([1], token)
        assert (await take(left, 1))[1] == {1}


async def test_a_wake_up_that_is_lost_is_made_up_for_by_a_timer(redis_url: str) -> None:
    locks = Locks(redis_url, Lease(retry_seconds=0.01))  # it does not run, so it listens to nobody
    told = Freed(locks)
    locks.retry_soon({7})
    assert await told.wait() == [{7}]


async def test_two_processes_that_hammer_one_wallet_both_get_their_share(database: str, redis_url: str) -> None:
    async with banks(2, redis_url) as both:
        (alice,) = await purses(1, holding="1.00", bank=both[0])
        given: Counter[int] = Counter()
        tickets = iter(range(1500))

        async def hammer(place: int, bank: Bank) -> None:
            for _ in tickets:
                await bank.perform(alice.deposit("1.00"))
                given[place] += 1

        async with asyncio.timeout(GIVE_UP_SECONDS):
            await asyncio.gather(*(hammer(n % 2, both[n % 2]) for n in range(32)))
        assert await alice.balance() == "1501.00"
        assert min(given[0], given[1]) > 75, "one in twenty: whoever is starved gets next to nothing"


async def test_a_wallet_that_another_process_holds_does_not_keep_the_other_wallets_of_a_batch_waiting(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url) as (bank,), two(redis_url) as (other, _):
        alice, bob, carol = await purses(3, holding="10.00", bank=bank)
        await bank.perform(carol.send("1.00", alice))  # her number is known now: whoever pays her queues for her
        token, missed = await take(other, alice.id)
        while missed:  # the bank's own release is on its way
            token, missed = await take(other, alice.id)
        waiting = [
            asyncio.create_task(bank.perform(order)) for order in (alice.withdraw("1.00"), carol.send("1.00", alice))
        ]
        others = await answers([bank.perform(bob.withdraw("1.00")), bank.perform(bob.deposit("5.00"))])
        assert len(receipts(others)) == 2
        assert not any(task.done() for task in waiting)
        await other._release_now([alice.id], token)
        assert len(receipts(await answers(waiting))) == 2
        assert (await alice.balance(), await carol.balance()) == ("11.00", "8.00")


async def test_the_rows_keep_money_right_where_redis_forgets_its_locks(database: str, redis_url: str) -> None:
    async with banks(2, redis_url) as both, Redis.from_url(redis_url) as redis:
        (alice,) = await purses(1, holding="100.00", bank=both[0])
        bob = await purse()
        async with held_up(database, alice):
            asked = [asyncio.create_task(both[n % 2].perform(alice.send("60.00", bob))) for n in range(2)]
            await until_waiting(database)
            for _ in range(20):
                await redis.flushall()
                await asyncio.sleep(0.01)
        assert len(receipts(await answers(asked))) == 1
        assert (await alice.balance(), await bob.balance()) == ("40.00", "60.00")


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A Redis of this test's own, to be killed."""
    with embedded_servers(tmp_path, durable=False, postgres=False) as servers:
        assert servers.redis_url
        yield servers.running[0], servers.redis_url


def _kill(server: Server) -> None:
    assert server.process
    server.process.kill()
    server.process.wait()


def _stop(server: Server) -> None:
    """It takes connections, and answers nothing."""
    assert server.process
    os.kill(server.process.pid, signal.SIGSTOP)


def _continue(server: Server) -> None:
    assert server.process
    os.kill(server.process.pid, signal.SIGCONT)


Change = Callable[[Server], None]
each_absence = pytest.mark.parametrize(
    ("go", "come"), [(_kill, Server.start), (_stop, _continue)], ids=["gone", "silent"]
)


@each_absence
async def test_money_moves_while_redis_is_away_and_locks_resume_when_it_is_back(
    database: str, valkey: tuple[Server, str], go: Change, come: Change
) -> None:
    server, url = valkey
    lease = Lease(probe_seconds=0.05)
    async with banks(2, url, lease=lease) as both:
        alice, bob = await purses(2, holding="1000.00", bank=both[0])
        numbers = count()
        stop = asyncio.Event()

        async def traffic() -> None:
            while not stop.is_set():
                pair = (alice, bob) if next(numbers) % 2 else (bob, alice)
                await both[next(numbers) // 2 % 2].perform(pair[0].send("1.00", pair[1]))

        crowd = [asyncio.create_task(traffic()) for _ in range(8)]
        for _ in range(2):
            go(server)
            await until(lambda: _are(both, degraded=True))
            assert len(receipts(await answers([bank.perform(alice.deposit("1.00")) for bank in both]))) == 2
            come(server)
            await until(lambda: _are(both, degraded=False))
        stop.set()
        await asyncio.wait_for(asyncio.gather(*crowd), GIVE_UP_SECONDS)
        assert sum([Decimal(await each.balance()) for each in (alice, bob)]) == 2004

        async def locked_again() -> bool:
            _, missed = await both[0].locks.take([4711])
            assert not missed
            return (await both[1].locks.take([4711]))[1] == {4711}

        await until(locked_again)


async def _are(all_of_them: list[Bank], *, degraded: bool) -> bool:
    return all(bank.locks.degraded == degraded for bank in all_of_them)


@each_absence
async def test_wake_ups_come_again_after_redis_was_away(valkey: tuple[Server, str], go: Change, come: Change) -> None:
    server, url = valkey
    async with two(url, IMPATIENT) as (left, right):
        go(server)
        await left.take([1])
        await right.take([1])
        await asyncio.sleep(4)  # by then who listens has lost its patience more than once
        come(server)
        for each in (left, right):
            await until(partial(_listens, url, each))
            await until(partial(_is_back, each))
        woken = Freed(right)
        token, _ = await take(left, 1)
        assert (await take(right, 1))[1] == {1}
        left.release_soon([1], token)
        assert await woken.wait() == [{1}]


async def test_wake_ups_come_again_after_the_connection_that_listens_has_died_without_a_word(redis_url: str) -> None:
    async with cable(redis_url) as line, two(line.url, IMPATIENT) as (left, right):
        woken = Freed(right)
        wallet_ids = count(1)

        async def wakes() -> bool:
            wallet_id = next(wallet_ids)
            token, _ = await take(left, wallet_id)
            assert (await take(right, wallet_id))[1] == {wallet_id}
            await left._release_now([wallet_id], token)
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.event.wait(), 0.1)
            return {wallet_id} in woken.told

        line.forget()  # only who listens has a connection yet
        await until(wakes)


async def test_what_a_silent_redis_was_asked_for_does_not_stay_locked_once_it_has_heard_of_it(
    valkey: tuple[Server, str],
) -> None:
    server, url = valkey
    async with two(url, IMPATIENT) as (left, right):
        token, _ = await take(left, 1)
        _stop(server)
        assert await left.take([2, 3]) == ("", set())
        await left._release_now([1], token)
        _continue(server)
        await until(partial(_is_back, left))

        async def can_be_had() -> bool:
            token, missed = await take(right, 1, 2, 3)
            await right._release_now({1, 2, 3} - missed, token)
            return not missed

        await until(can_be_had)


async def _is_back(locks: Locks) -> bool:
    await locks.take([4711])
    return not locks.degraded


async def test_without_redis_nothing_is_missed_and_nothing_is_released() -> None:
    locks = Locks(NOBODY_LISTENS, Lease())
    async with locks.running(lambda _: None):
        assert await locks.take([1, 2]) == ("", set())
        assert locks.degraded
        locks.release_soon([1, 2], "")
        assert not locks._releases
