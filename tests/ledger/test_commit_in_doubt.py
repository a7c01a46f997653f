"""The connection is lost around COMMIT: nobody is told a guess, and money moves exactly once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import pytest
from asyncpg.exceptions import RaiseError
from msgspec.structs import replace

from actors.bank import Bank, Limits
from actors.engine import settlement
from actors.orders import ChargeFee, Deposit, Order, Receipt, Unfreeze
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Overloaded, Refusal
from app.proof.cable import Cable, Fault, cable
from db.engine import Pool, connection_pool, engine
from db.tables import Entry, StaffAction, Transaction
from tests.helpers.banks import answers, banks, codes, performed, receipts
from tests.helpers.postgres import assert_audit, connected, poison_amount, take_every_slot
from tests.helpers.purses import Purse, purse, purses, reversal
from tests.helpers.waiting import GIVE_UP_SECONDS, until

POOL = Pool(max_size=3, lock_timeout_seconds=60, statement_timeout_seconds=60)
CUTS: list[Fault] = ["unsent", "sent", "unanswered", "terminated"]


@pytest.fixture
async def line(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cable]:
    """The pool is connected through a cable; in the end no slot is lost, and the ledger passes the audit."""
    monkeypatch.setattr(settlement, "_PAUSE_SECONDS", 0.002)
    async with cable(database_url) as between:
        engine().config["dsn"] = between.url
        async with connection_pool(POOL):
            yield between
            await take_every_slot()
            await assert_audit()
        engine().config["dsn"] = database_url


def some_orders(chance: Random, circle: list[Purse], round: int) -> list[Order]:
    """A batch as it comes: all kinds of orders, some that are refused, some under one key."""
    orders: list[Order] = []
    for number in range(chance.randint(1, 9)):
        sender, to = chance.sample(circle, 2)
        key = chance.choice([None, f"{round}-{number}", f"{round}-{number}"])
        kind = chance.choice(["deposit", "withdraw", "send", "send", "refused", "twice"])
        if kind == "deposit":
            orders.append(sender.deposit("3.00", key))
        elif kind == "withdraw":
            orders.append(sender.withdraw("1.00", key))
        elif kind == "send":
            orders.append(sender.send("2.00", to, key))
        elif kind == "refused":
            orders.append(sender.withdraw("99999999.00", key))
        else:
            orders += [sender.send("1.00", to, f"{round}-{number}-twice") for _ in range(2)]
    return orders


async def test_refusals_are_not_committed_whether_or_not_there_was_a_row_to_be_locked(
    line: Cable, redis_url: str
) -> None:
    """COMMIT would wait for the disk, but only where a row was locked: a stranger could tell who has a number."""
    async with banks(1, redis_url) as (bank,):
        mine, his = await purses(2, holding="10.00", bank=bank)
        nobodys = replace(his, number="nobody")
        foreign = [replace(mine, id=id) for id in (his.id, 1, 999_999_999)]
        before = line.commits
        asked = [each.send("1.00", to) for each in foreign for to in (his, nobodys)]
        asked += [mine.send("11.00", his), mine.send("11.00", nobodys), mine.send("1.00", nobodys)]
        for order in asked:
            with pytest.raises(Refusal):
                await bank.perform(order)
        assert line.commits == before
        await bank.perform(mine.send("1.00", his))
        assert line.commits == before + 1


async def test_whatever_is_cut_around_commit_every_order_has_its_answer_and_moves_money_once(
    line: Cable, redis_url: str
) -> None:
    chance = Random(20261123)
    moved: Counter[int] = Counter()
    told: dict[UUID, Receipt] = {}
    async with banks(1, redis_url) as (bank,):
        circle = await purses(5, holding="1000.00", bank=bank)
        ids = {each.number: each.id for each in circle}
        for round in range(150):
            line.faults = chance.choices(CUTS, k=chance.choice([1, 1, 1, 2, 3]))
            orders = some_orders(chance, circle, round)
            came_to = await performed(bank, orders)
            assert codes(came_to) <= {"insufficient_funds"}
            for order, receipt in zip(orders, came_to, strict=True):
                if not isinstance(receipt, Receipt):
                    continue
                assert receipt.transaction
                if receipt.replayed:
                    assert receipt.transaction == told[receipt.transaction.id].transaction
                    continue
                assert receipt.transaction.id == order.id, "the receipt is that of this order"
                assert order.id not in told
                told[order.id] = receipt
                if receipt.sender_number:
                    moved[ids[receipt.sender_number]] -= int(receipt.transaction.amount)
                if receipt.receiver_number:
                    moved[ids[receipt.receiver_number]] += int(receipt.transaction.received_amount)
            line.faults = []
        assert line.commits > 150, "most rounds have met a fault"
        for each in circle:
            assert await each.balance() == f"{1000 + moved[each.id]}.00"
        await assert_receipts_tell_what_is_there(told, opening=len(circle))


async def test_a_bulk_whose_commit_was_in_doubt_is_made_once_and_its_key_tells_of_it(
    line: Cable, redis_url: str
) -> None:
    """Among other orders, with and without a key, with a refusal in it, for itself and all or none."""
    chance = Random(20261125)
    sent: Counter[int] = Counter()
    async with banks(1, redis_url) as (bank,):
        circle = await purses(5, holding="1000.00", bank=bank)
        for round in range(80):
            line.faults = chance.choices(CUTS, k=chance.choice([1, 1, 2, 3]))
            sender, *others = chance.sample(circle, 4)
            atomic, key = chance.random() < 0.5, chance.choice([None, f"bulk-{round}"])
            wishes = [(chance.choice(["1.00", "2.00"]), chance.choice(others)) for _ in range(chance.randint(1, 6))]
            if not atomic and chance.random() < 0.5:
                wishes.insert(chance.randint(0, len(wishes)), ("99999999.00", others[0]))
            asked = [sender.send_all(wishes, key, atomic=atomic) for _ in range(2 if key else 1)]
            alone = [others[0].send("0.01", others[1]), others[1].send("0.01", others[0])]
            told, _ = await asyncio.gather(asyncio.gather(*map(bank.perform_all, asked)), performed(bank, alone))
            made = [[each for each in outcomes if isinstance(each, Receipt)] for outcomes in told]
            assert [len(receipts) for receipts in made] == [sum(amount < "9" for amount, _ in wishes)] * len(asked)
            assert len({tuple(each.transaction for each in receipts) for receipts in made}) == 1
            line.faults = []
            if key:
                again = await bank.perform_all(sender.send_all(wishes, key, atomic=atomic))
                assert [each for each in again if isinstance(each, Receipt)] == [
                    replace(each, replayed=True) for each in made[0]
                ]
            sent[sender.id] += sum(int(amount[0]) for amount, _ in wishes if amount < "9")
            for amount, to in wishes:
                sent[to.id] -= int(amount[0]) if amount < "9" else 0
        assert line.commits > 80
        assert sum([Decimal(await each.balance()) for each in circle]) == 5000
        for each in circle:
            assert await each.balance() == f"{1000 - sent[each.id]}.00"


async def assert_receipts_tell_what_is_there(told: dict[UUID, Receipt], *, opening: int) -> None:
    """Every transaction has a receipt with its balance, and every receipt a transaction; but for the opening ones."""
    acting: dict[tuple[UUID, int], Decimal] = {
        (row["transaction"], row["wallet"]): row["balance_after"] for row in await Entry.select()
    }
    there = {row["id"]: row for row in await Transaction.select()}
    assert told.keys() <= there.keys()
    assert len(there) == len(told) + opening
    for id, receipt in told.items():
        row: dict[str, Any] = there[id]
        assert receipt.transaction
        assert (row["sender"], row["receiver"]) == (receipt.transaction.sender_id, receipt.transaction.receiver_id)
        assert (row["amount"], row["created_at"]) == (receipt.transaction.amount, receipt.transaction.created_at)
        wallet_id = receipt.transaction.sender_id or receipt.transaction.receiver_id
        assert wallet_id
        assert acting[id, wallet_id] == receipt.balance_after


@pytest.mark.parametrize("fault", CUTS)
async def test_a_fee_whose_commit_was_in_doubt_is_charged_once(line: Cable, redis_url: str, fault: Fault) -> None:
    async with banks(2, redis_url) as (left, right):
        (alice,) = await purses(1, holding="500.00", bank=left)
        await _make_overdue(alice)
        order = ChargeFee(wallet_id=alice.id, due_at=(await alice.row())["fee_due_at"])
        line.faults = [fault]
        first, second = receipts(await answers([left.perform(order), right.perform(order)]))
        assert sum(receipt.transaction is not None for receipt in (first, second)) >= 1
        assert await alice.balance() == "300.00"


@pytest.mark.parametrize("fault", CUTS)
async def test_what_staff_ask_is_done_and_logged_once_when_its_commit_was_in_doubt(
    line: Cable, redis_url: str, fault: Fault
) -> None:
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        sent = await bank.perform(alice.send("30.00", bob))
        for order in (alice.adjust("-1.00"), reversal(sent), bob.freeze(), bob.unfreeze(), alice.freeze()):
            line.faults = [fault]
            assert isinstance(await bank.perform(order), Receipt)
        assert (await alice.balance(), await bob.balance()) == ("99.00", "100.00")
        assert [(await each.row())["frozen_at"] is not None for each in (alice, bob)] == [True, False]
    actions = [row["action"] for row in await StaffAction.select().order_by(StaffAction.created_at)]
    assert actions == ["ADJUST", "REVERSE", "FREEZE", "UNFREEZE", "FREEZE"]


@pytest.mark.parametrize("fault", ["unanswered", "terminated"])
async def test_a_freeze_in_doubt_is_not_done_again_where_somebody_has_ended_it_since(
    line: Cable, database_url: str, redis_url: str, fault: Fault
) -> None:
    async with banks(1, redis_url) as (bank,), connected(database_url) as other:
        alice = await purse()
        for order, since in ((alice.freeze(), None), (alice.unfreeze(), datetime.now(UTC))):
            if isinstance(order, Unfreeze):
                await bank.perform(alice.freeze())
            line.faults, line.unplug_at_fault = [fault], True
            asked = asyncio.create_task(bank.perform(order))
            await until(partial(_is_unplugged, line))
            await other.execute("UPDATE wallet SET frozen_at = $1 WHERE id = $2", since, alice.id)
            line.plug()
            receipt = await asked
            assert (receipt.transaction, receipt.unchanged) == (None, False)
            assert (await alice.row())["frozen_at"] == since
            assert await StaffAction.count().where(StaffAction.id == order.id) == 1


async def _is_unplugged(line: Cable) -> bool:
    return line.unplugged


async def test_an_answer_that_never_comes_is_looked_up_too(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "_PAUSE_SECONDS", 0.002)
    async with cable(database_url) as line:
        engine().config["dsn"] = line.url
        async with (
            connection_pool(Pool(max_size=3, statement_timeout_seconds=2)),
            banks(1, redis_url) as (bank,),
        ):
            alice, bob = await purses(2, holding="100.00", bank=bank)
            for _ in range(3):
                line.faults = ["silent"]
                came_to = await performed(bank, [alice.send("1.00", bob), alice.withdraw("1.00")])
                assert len(receipts(came_to)) == 2
            assert (await alice.balance(), await bob.balance()) == ("94.00", "103.00")
            await take_every_slot()
            await assert_audit()
        engine().config["dsn"] = database_url


@pytest.mark.parametrize(("fault", "happened"), [("unanswered", True), ("terminated", True), ("unsent", False)])
async def test_where_the_database_does_not_come_back_in_time_the_outcome_is_called_unknown(
    line: Cable, database_url: str, redis_url: str, fault: Fault, happened: bool
) -> None:
    async with banks(1, redis_url, Limits(patience_seconds=1)) as (bank,):
        alice, bob = await purses(2, holding="100.00", bank=bank)
        line.faults, line.unplug_at_fault = [fault], True
        asked = asyncio.create_task(bank.perform(alice.withdraw("30.00", "k")))
        await until(partial(_is_unplugged, line))
        (of_another,) = await answers([bank.perform(bob.deposit("1.00"))])
        assert type(of_another) is DatabaseUnavailable, "it waits for nobody's doubt but until that is given up"
        (answer,) = await answers([asked])
        assert type(answer) is OutcomeUnknown
        line.plug()
        again = await _patiently(bank.perform, alice.withdraw("30.00", "k"))
        assert again.replayed == happened, "the key tells what came of it"
        assert (await alice.balance(), await bob.balance()) == ("70.00", "100.00")


@pytest.mark.parametrize(
    ("go", "come"), [(Cable.unplug, Cable.plug), (Cable.hush, Cable.speak)], ids=["gone", "silent"]
)
async def test_while_the_database_is_away_every_order_is_told_so_and_then_service_resumes(
    line: Cable,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    go: Callable[[Cable], None],
    come: Callable[[Cable], None],
) -> None:
    async with banks(1, redis_url) as (bank,):
        alice, bob = await purses(2, holding="10.00", bank=bank)
        stranger = await purse()
        monkeypatch.setattr(settlement, "_BEGIN_SECONDS", 0.5)
        for _ in range(3):
            go(line)
            orders: list[Order] = [alice.send("1.00", bob), alice.deposit("1.00"), bob.send("1.00", stranger)]
            came_to = await performed(bank, orders)
            assert (receipts(came_to), codes(came_to)) == ([], {"database_unavailable"})
            assert not any(isinstance(answer, OutcomeUnknown) for answer in came_to)
            come(line)
            await _patiently(bank.perform, alice.send("1.00", bob))
        assert (await alice.balance(), await bob.balance()) == ("7.00", "13.00")


async def test_whenever_the_database_falls_silent_whoever_asks_again_with_the_key_has_paid_once(
    line: Cable, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent meanwhile arrives late, when nobody waits for it any more: COMMITs too."""
    chance = Random(20261126)
    expected: Counter[int] = Counter()
    refused: Counter[type] = Counter()
    paid = asyncio.Event()

    async def pay(bank: Bank, sender: Purse, to: Purse, key: str) -> None:
        expected[sender.id] -= 1
        expected[to.id] += 1
        async with asyncio.timeout(600):
            while not isinstance(answer := (await answers([bank.perform(sender.send("1.00", to, key))]))[0], Receipt):
                assert isinstance(answer, DatabaseUnavailable | Overloaded)
                refused[type(answer)] += 1
                await asyncio.sleep(chance.uniform(0, 0.05))
        paid.set()

    async def fall_silent() -> None:
        while True:
            paid.clear()
            await paid.wait()  # however slow the machine is, it comes to something between two silences
            await asyncio.sleep(chance.uniform(0, 0.05))
            line.hush()
            await asyncio.sleep(chance.uniform(0.02, 0.9))
            line.speak()

    async with banks(2, redis_url, Limits(patience_seconds=0.1)) as both:
        circle = await purses(5, holding="1000.00", bank=both[0])
        for limit in ("actors.engine.settlement._BEGIN_SECONDS", "actors.engine.settlement._BATCH_SECONDS"):
            monkeypatch.setattr(limit, 0.3)
        monkeypatch.setattr("db.transaction.COMMIT_SECONDS", 0.3)
        silences = asyncio.create_task(fall_silent())
        for wave in range(300):
            if wave >= 10 and refused[OutcomeUnknown]:
                break
            pairs = [chance.sample(circle, 2) for _ in range(10)]
            await asyncio.gather(
                *(pay(chance.choice(both), one, other, f"{wave}-{n}") for n, (one, other) in enumerate(pairs))
            )
        silences.cancel()
        line.speak()
        await asyncio.wait([silences])
        for each in circle:
            assert await each.balance() == f"{1000 + expected[each.id]}.00"
    assert refused[OutcomeUnknown] > 0
    assert refused[DatabaseUnavailable] > 0


@pytest.mark.parametrize("fault", CUTS)
async def test_of_a_poisoned_batch_a_half_whose_commit_was_in_doubt_is_carried_out_once(
    line: Cable, database_url: str, redis_url: str, fault: Fault
) -> None:
    await poison_amount(database_url)
    async with banks(1, redis_url) as (bank,):
        many = await purses(4, holding="100.00", bank=bank)
        line.faults = [fault]  # the whole batch fails before its COMMIT, so the first one is that of a half
        came_to = await answers(
            [bank.perform(each.withdraw("13.13" if place == 2 else "1.00")) for place, each in enumerate(many)]
        )
        assert isinstance(came_to.pop(2), RaiseError)
        assert len(receipts(came_to)) == 3
        assert [await each.balance() for each in many] == ["99.00", "99.00", "100.00", "99.00"]


async def test_a_refusal_is_not_told_before_the_commit_of_what_it_is_based_on(line: Cable, redis_url: str) -> None:
    """The second withdrawal is refused because of the first; if that one did not happen, it is not refused either."""
    async with banks(1, redis_url) as (bank,):
        (alice,) = await purses(1, holding="10.00", bank=bank)
        line.faults = ["unsent"]
        came_to = await performed(bank, [alice.withdraw("10.00"), alice.withdraw("10.00")])
        assert (len(receipts(came_to)), codes(came_to)) == (1, {"insufficient_funds"})


async def _make_overdue(of: Purse) -> None:
    async with connected(engine().config["dsn"]) as connection:
        await connection.execute(
            """UPDATE "wallet" SET "fee_due_at" = now() - interval '1 hour' WHERE "id" = $1""", of.id
        )


async def _patiently(perform: Any, order: Deposit | Order) -> Receipt:
    """Ask until the database is back."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            (answer,) = await answers([perform(order)])
            if isinstance(answer, Receipt):
                return answer
            assert isinstance(answer, Refusal)
            assert answer.code == "database_unavailable"
