"""Staff's orders on a real database: once, whoever asks and whatever breaks."""

import asyncio
from uuid import UUID

import pytest
from msgspec.structs import replace

from actors.orders import Order, Receipt, new_id
from actors.refusals import ReceiverUnavailable, TransactionNotFound, WalletFrozen
from db.tables import StaffAction, Transaction
from tests.helpers.banks import NOBODY_LISTENS, RATES, answers, banks, codes, performed, receipts
from tests.helpers.postgres import connected
from tests.helpers.purses import AYAN, purse, purses, reversal


@pytest.mark.parametrize("redis", [True, False], ids=["locked", "degraded"])
async def test_of_forty_reversals_of_one_transfer_through_two_banks_one_happens(
    database: str, redis_url: str, redis: bool
) -> None:
    async with banks(2, redis_url if redis else NOBODY_LISTENS) as both:
        alice, bob = await purses(2, holding="100.00", bank=both[0])
        sent = await both[0].perform(alice.send("30.00", bob))
        came_to = await answers([both[n % 2].perform(reversal(sent)) for n in range(40)])
        (back,) = receipts(came_to)
        assert codes(came_to) == {"not_reversible"}
        assert (await alice.balance(), await bob.balance()) == ("100.00", "100.00")
        assert back.transaction
        assert sent.transaction
        assert back.transaction.reverses == sent.transaction.id
    (logged,) = await StaffAction.select()
    assert (logged["id"], logged["staff"], logged["staff_name"]) == (back.transaction.id, AYAN.id, AYAN.name)
    assert (logged["action"], logged["wallet"], logged["reason"]) == ("REVERSE", bob.id, "sent by mistake")


async def test_whoever_has_locked_a_person_holds_up_nothing_that_staff_do_to_their_wallet(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url) as (bank,), connected(database) as other:
        (alice,) = await purses(1, holding="10.00", bank=bank)
        deposited = await bank.perform(alice.deposit("5.00"))
        orders: list[Order] = [alice.freeze(), reversal(deposited), alice.adjust("1.00"), alice.unfreeze()]
        async with other.transaction():
            await other.execute('SELECT FROM "user" FOR UPDATE')
            assert len(receipts(await performed(bank, orders))) == 4
        assert (await alice.balance(), (await alice.row())["frozen_at"]) == ("11.00", None)


async def test_once_a_freeze_is_answered_nothing_gets_in_or_out_of_either_bank(database: str, redis_url: str) -> None:
    async with banks(2, redis_url) as both:
        alice, bob = await purses(2, holding="500.00", bank=both[0])
        frozen = asyncio.Event()
        late: list[str] = []

        async def spend(number: int) -> None:
            bank = both[number % 2]
            kinds = (alice.withdraw("1.00"), alice.deposit("1.00"), alice.send("1.00", bob), bob.send("1.00", alice))
            for _ in range(15):
                was_frozen = frozen.is_set()
                try:
                    await bank.perform(replace(kinds[number % 4], id=new_id()))
                    if was_frozen:
                        late.append("moved")
                except (WalletFrozen, ReceiverUnavailable):
                    continue

        async def freeze() -> None:
            await asyncio.sleep(0.02)
            await both[0].perform(alice.freeze())
            frozen.set()

        await asyncio.gather(freeze(), *(spend(number) for number in range(40)))
        assert late == []
        held = await alice.balance()
        with pytest.raises(ReceiverUnavailable):
            await both[1].perform(bob.send("1.00", alice))
        assert (await alice.row())["frozen_at"] is not None
        await both[1].perform(alice.unfreeze())
        await both[0].perform(bob.send("1.00", alice))
        assert float(await alice.balance()) == float(held) + 1
    assert [row["action"] for row in await StaffAction.select().order_by(StaffAction.id)] == ["FREEZE", "UNFREEZE"]


async def test_an_adjustment_given_forty_times_under_one_reference_moves_money_once(
    database: str, redis_url: str
) -> None:
    async with banks(2, redis_url) as both:
        (alice,) = await purses(1, holding="1.00", bank=both[0])
        came_to = receipts(await answers([both[n % 2].perform(alice.adjust("4.00", "ticket 9")) for n in range(40)]))
        assert sum(not receipt.replayed for receipt in came_to) == 1
        assert await alice.balance() == "5.00"
    assert await StaffAction.count() == 1


async def test_a_reversed_exchange_gives_back_what_was_sent_also_where_rates_are_gone(
    database: str, redis_url: str
) -> None:
    async with banks(1, redis_url) as (bank,):
        (alice,) = await purses(1, holding="1000.00", bank=bank)
        dollars = await purse("USD")
        sent = await bank.perform(alice.send("777.77", dollars))
        bank._rates = lambda: None
        back = await bank.perform(reversal(sent))
        assert isinstance(back, Receipt)
        assert RATES
        assert (await alice.balance(), await dollars.balance()) == ("1000.00", "0.00")
        assert back.balance_after == 0
        with pytest.raises(TransactionNotFound):
            await bank.perform(replace(reversal(sent), transaction_id=UUID(int=1)))
    row = await Transaction.select().where(Transaction.reverses.is_not_null()).first()
    assert row
    assert (row["amount_currency"], row["received_currency"]) == ("USD", "KZT")
