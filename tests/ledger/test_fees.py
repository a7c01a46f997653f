"""Fees are found by their date and charged once a period, whoever runs and however often."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from actors.bank import Bank
from actors.engine.locks import Locks
from actors.money import Rates
from actors.orders import Deposit, new_id
from db.tables import Message, Transaction, User, Wallet
from tasks import fees
from tasks.fees import FeesCharged, charge_due_fees
from tests.helpers.patience import PATIENT_LEASE, PATIENT_LIMITS
from tests.helpers.postgres import connected
from tests.helpers.prices import rates_at

NOW = datetime.now(UTC)
RATES = rates_at(as_of=NOW, valid_until=NOW + timedelta(days=1), KZT="520", EUR="0.86")


class Quoted:
    """The rates that the bank sees; a test may take them away."""

    rates: Rates | None = RATES


@pytest.fixture
def quoted() -> Quoted:
    return Quoted()


@pytest.fixture
async def bank(database: str, redis_url: str, quoted: Quoted) -> AsyncIterator[Bank]:
    locks = Locks(redis_url, PATIENT_LEASE)
    bank = Bank(PATIENT_LIMITS, locks, lambda: quoted.rates)
    async with bank.running():
        yield bank


async def wallet(bank: Bank, holding: str = "0", *, currency: str = "KZT", days_overdue: float = 1) -> int:
    """A wallet whose fee has been due for so long."""
    user = User(id=uuid4(), email=f"{uuid4()}@x.kz", phone_number=uuid4().hex[:16], password_hash="x")
    await User.insert(user)
    (row,) = await Wallet.insert(
        Wallet(
            user=user.id,
            wallet_number=str(uuid4().int)[:10],
            amount_currency=currency,
            fee_due_at=NOW - timedelta(days=days_overdue),
        )
    )
    if Decimal(holding):
        await bank.perform(Deposit(id=new_id(), caller_id=user.id, wallet_id=row["id"], amount=Decimal(holding)))
    return int(row["id"])


async def state(wallet_id: int) -> tuple[str, bool]:
    row: dict[str, Any] | None = await Wallet.select().where(Wallet.id == wallet_id).first()
    assert row
    return str(row["amount"]), row["is_active"]


async def test_a_due_fee_is_charged_once_and_one_that_is_not_due_is_left(bank: Bank) -> None:
    due, early = await wallet(bank, "500.00"), await wallet(bank, "500.00", days_overdue=-1)
    assert await charge_due_fees(bank, RATES) == FeesCharged(due=1, charged=1)
    assert await charge_due_fees(bank, RATES) == FeesCharged()
    assert (await state(due), await state(early)) == (("300.00", True), ("500.00", True))


async def test_each_period_that_is_due_is_charged_by_itself(bank: Bank) -> None:
    rich, poor = await wallet(bank, "1000.00", days_overdue=65), await wallet(bank, "450.00", days_overdue=65)
    run = await charge_due_fees(bank, RATES)
    assert run == FeesCharged(due=2, charged=5, blocked=1)
    assert (await state(rich), await state(poor)) == (("400.00", True), ("50.00", False))


async def test_runs_at_the_same_time_charge_once(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fees, "FEE_CHUNK", 3)
    ids = [await wallet(bank, "1000.00", days_overdue=35) for _ in range(10)]
    runs = await asyncio.gather(*(charge_due_fees(bank, RATES) for _ in range(3)))
    assert sum(run.charged for run in runs) == 20
    assert {await state(each) for each in ids} == {("600.00", True)}
    assert await Transaction.count().where(Transaction.operation_type == "FEE") == 20


async def test_chunks_miss_nobody_even_with_one_due_date(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fees, "FEE_CHUNK", 2)
    for _ in range(5):
        await wallet(bank, "200.00")
    told: list[tuple[int, int]] = []
    run = await charge_due_fees(bank, RATES, progress=lambda so_far, walked: told.append((so_far.charged, walked)))
    assert (run.charged, told) == (5, [(2, 2), (4, 4), (5, 5)])


async def test_a_wallet_that_holds_too_little_is_blocked_with_one_message_and_owes_no_more(bank: Bank) -> None:
    await wallet(bank, "199.99", days_overdue=100)
    assert (await charge_due_fees(bank, RATES)).blocked == 1
    assert await charge_due_fees(bank, RATES) == FeesCharged()
    (message,) = await Message.select()
    assert (message["template"], message["sent_at"]) == ("wallet_blocked", None)


async def test_whoever_has_locked_a_person_holds_up_none_of_their_fees(bank: Bank, database: str) -> None:
    """That a wallet is blocked is told in a message of theirs, written in the batch of many."""
    await wallet(bank, "199.99", days_overdue=100)
    async with connected(database) as other, other.transaction():
        await other.execute('SELECT FROM "user" FOR UPDATE')
        assert (await charge_due_fees(bank, RATES)).blocked == 1
    assert await Message.count() == 1


async def test_without_rates_other_currencies_are_skipped_and_charged_later(bank: Bank, quoted: Quoted) -> None:
    tenge, euro = await wallet(bank, "200.00"), await wallet(bank, "1.00", currency="EUR")
    quoted.rates = None
    assert await charge_due_fees(bank, None) == FeesCharged(due=2, charged=1, skipped=1)
    quoted.rates = RATES
    assert await charge_due_fees(bank, RATES) == FeesCharged(due=1, charged=1)
    assert (await state(tenge), await state(euro)) == (("0.00", True), ("0.67", True))


async def test_a_currency_without_a_price_is_skipped_and_every_other_fee_is_charged(bank: Bank, quoted: Quoted) -> None:
    """As when a currency is new, and the rates are still those that an older version has kept."""
    lacking = {code: price for code, price in RATES.per_dollar.items() if code != "EUR"}
    tenge, euro, dollar = [await wallet(bank, "200.00", currency=code) for code in ("KZT", "EUR", "USD")]
    blocked = await wallet(bank, "0.10", currency="EUR")
    quoted.rates = older = replace(RATES, per_dollar=lacking)
    assert await charge_due_fees(bank, older) == FeesCharged(due=4, charged=2, skipped=2)
    quoted.rates = RATES
    assert await charge_due_fees(bank, RATES) == FeesCharged(due=2, charged=1, blocked=1)
    quoted.rates = older
    assert await charge_due_fees(bank, older) == FeesCharged()
    amounts = [(await state(each))[0] for each in (tenge, euro, dollar, blocked)]
    assert amounts == ["0.00", "199.67", "199.62", "0.10"]


async def test_a_blocked_wallet_is_asked_again_when_its_balance_would_pay(bank: Bank, quoted: Quoted) -> None:
    euro = await wallet(bank, "0.10", currency="EUR")
    assert (await charge_due_fees(bank, RATES)).blocked == 1
    quoted.rates = None
    user_id = (await Wallet.select(Wallet.user).where(Wallet.id == euro))[0]["user"]
    await bank.perform(Deposit(id=new_id(), caller_id=user_id, wallet_id=euro, amount=Decimal("1.00")))
    assert await state(euro) == ("1.10", False)
    quoted.rates = RATES
    assert (await charge_due_fees(bank, RATES)).charged == 1
    assert await state(euro) == ("0.77", True)


async def test_a_told_stop_leaves_the_rest_for_the_next_run(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fees, "FEE_CHUNK", 1)
    for _ in range(2):
        await wallet(bank, "200.00")
    stop = asyncio.Event()
    stop.set()
    assert (await charge_due_fees(bank, RATES, stop=stop)).charged == 1
    assert (await charge_due_fees(bank, RATES)).charged == 1
