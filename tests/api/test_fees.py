"""The monthly fee as people meet it: charged when due, a block where it can't be paid, and the way out of that."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from actors.rules.fees import FEE_PERIOD
from app.settings import Settings
from db.tables import Message, Transaction, Wallet
from tests.helpers.fees import FeeDay, make_due
from tests.helpers.prices import publish_rates
from tests.helpers.refusals import refusal
from tests.helpers.users import OpenWallet, register


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    await publish_rates(settings.redis_url)
    return settings


async def due_at(wallet: OpenWallet) -> datetime:
    """When its next fee is due."""
    row = await Wallet.select(Wallet.fee_due_at).where(Wallet.id == wallet.id).first()
    assert row is not None
    found: datetime = row["fee_due_at"]
    return found


def kinds(rows: list[dict[str, Any]]) -> list[str]:
    return [row["operation_type"] for row in rows]


async def test_the_first_fee_is_due_thirty_days_after_the_wallet_was_opened(
    client: httpx.AsyncClient, fees: FeeDay
) -> None:
    wallet = await (await register(client)).open_wallet(holding="1000")
    created_at = datetime.fromisoformat((await wallet.shown())["created_at"])
    assert await due_at(wallet) == created_at + FEE_PERIOD == created_at + timedelta(days=30)
    assert (await fees.run()).due == 0
    assert await wallet.balance() == 1000


async def test_a_due_fee_of_200_tenge_is_charged_and_shown(client: httpx.AsyncClient, fees: FeeDay) -> None:
    wallet = await (await register(client)).open_wallet(holding="1000")
    was_due_at = await make_due(wallet)
    assert (await fees.run()).charged == 1
    fee, _ = await wallet.history()
    assert fee == {
        "id": fee["id"],
        "operation_type": "FEE",
        "amount": "200.00",
        "amount_currency": "KZT",
        "received_amount": "200.00",
        "received_currency": "KZT",
        "exchange_rate": None,
        "sender": {"wallet_number": wallet.number},
        "receiver": None,
        "reference": None,
        "balance_after": "800.00",
        "created_at": fee["created_at"],
    }
    assert await wallet.history(operation_type="FEE") == [fee]
    assert await due_at(wallet) == was_due_at + FEE_PERIOD


async def test_a_fee_takes_the_last_tenge(client: httpx.AsyncClient, fees: FeeDay) -> None:
    wallet = await (await register(client)).open_wallet(holding="200")
    await make_due(wallet)
    await fees.run()
    assert ((await wallet.shown())["amount"], (await wallet.shown())["is_active"]) == ("0.00", True)


async def test_euro_and_dollar_wallets_pay_the_same_fee_converted(client: httpx.AsyncClient, fees: FeeDay) -> None:
    alice = await register(client)
    # 200 KZT at 512.345678 KZT and 0.876543 EUR for a dollar, rounded down.
    for currency, fee in (("EUR", "0.34"), ("USD", "0.39")):
        wallet = await alice.open_wallet(currency, holding="1.00")
        await make_due(wallet)
        assert (await fees.run()).charged == 1
        row = (await wallet.history())[0]
        assert (row["operation_type"], row["amount"], row["amount_currency"]) == ("FEE", fee, currency)
        assert Decimal(row["exchange_rate"]) > 0
        assert await wallet.balance() == 1 - Decimal(fee)


async def test_each_period_is_charged_once_however_often_and_whoever_asks(
    client: httpx.AsyncClient, fees: FeeDay
) -> None:
    alice, bob = await register(client), await register(client)
    one, three = await alice.open_wallet(holding="1000"), await bob.open_wallet(holding="1000")
    await make_due(one)
    await make_due(three, days_ago=65)
    await asyncio.gather(*(fees.run() for _ in range(10)))
    for _ in range(3):
        assert (await fees.run()).due == 0
    assert kinds(await one.history()) == ["FEE", "DEPOSIT"]
    assert kinds(await three.history()) == ["FEE", "FEE", "FEE", "DEPOSIT"]
    assert [await wallet.balance() for wallet in (one, three)] == [800, 400]


async def blocked_wallet(client: httpx.AsyncClient, fees: FeeDay, holding: str = "199.99") -> OpenWallet:
    """A wallet that could not pay its fee."""
    wallet = await (await register(client)).open_wallet(holding=holding)
    await make_due(wallet)
    assert (await fees.run()).blocked == 1
    return wallet


async def test_a_wallet_that_can_not_pay_is_blocked_and_its_owner_told_once(
    client: httpx.AsyncClient, fees: FeeDay
) -> None:
    wallet = await blocked_wallet(client, fees)
    for _ in range(3):
        await fees.run()
    seen = await wallet.shown()
    assert (seen["is_active"], seen["amount"]) == (False, "199.99")
    assert kinds(await wallet.history()) == ["DEPOSIT"]
    messages = await Message.select(Message.user).where(Message.template == "wallet_blocked")
    assert messages == [{"user": wallet.owner.user_id}]


async def test_a_blocked_wallet_sends_nothing_and_receives(client: httpx.AsyncClient, fees: FeeDay) -> None:
    wallet = await blocked_wallet(client, fees, holding="50")
    other = await (await register(client)).open_wallet(holding="50")
    refusal(await wallet.withdraw("1"), 400, "wallet_blocked")
    refusal(await wallet.send("1", other), 400, "wallet_blocked")
    assert (await wallet.deposit("30")).status_code == 201
    assert (await other.send("30", wallet)).status_code == 201
    refusal(await wallet.withdraw("1"), 400, "wallet_blocked")
    seen = await wallet.shown()
    assert (seen["is_active"], seen["amount"]) == (False, "110.00")
    assert kinds(await wallet.history()) == ["TRANSFER", "DEPOSIT", "DEPOSIT"]


@pytest.mark.parametrize("by", ["deposit", "transfer", "transfer across currencies"])
async def test_the_first_money_that_suffices_pays_the_fee_and_unblocks_in_the_same_commit(
    client: httpx.AsyncClient, fees: FeeDay, by: str
) -> None:
    wallet = await blocked_wallet(client, fees, holding="150")
    other = await (await register(client)).open_wallet("USD" if "across" in by else "KZT", holding="1000")
    assert (await wallet.deposit("49.99")).status_code == 201
    assert not (await wallet.shown())["is_active"]
    # A cent does it; the cent of a dollar is 5.12 tenge.
    paid = await (wallet.deposit("0.01") if by == "deposit" else other.send("0.01", wallet))
    assert paid.status_code == 201
    came = Decimal("5.12") if "across" in by else Decimal("0.01")
    fee, last, *_ = await wallet.history()
    assert kinds([fee, last]) == ["FEE", by.split()[0].upper()]
    assert last["id"] == paid.json()["id"]
    assert (fee["amount"], Decimal(fee["balance_after"])) == ("200.00", came - Decimal("0.01"))
    seen = await wallet.shown()
    assert (seen["is_active"], Decimal(seen["amount"])) == (True, came - Decimal("0.01"))
    # PostgreSQL's own word for it: both rows were written by one transaction of the database.
    writers = await Transaction.raw(
        'SELECT DISTINCT xmin::text FROM "transaction" WHERE id = ANY({}::uuid[])', [fee["id"], last["id"]]
    )
    assert len(writers) == 1
    assert await due_at(wallet) > datetime.now(UTC)
    assert (await fees.run()).due == 0
    await wallet.deposit("10")
    assert (await wallet.withdraw("10")).status_code == 201


async def test_a_blocked_wallet_runs_up_no_further_fees(client: httpx.AsyncClient, fees: FeeDay) -> None:
    wallet = await blocked_wallet(client, fees, holding="0.01")
    was_due_at = await make_due(wallet, days_ago=100)
    for _ in range(3):
        await fees.run()
    await wallet.deposit("1000")
    assert kinds(await wallet.history()) == ["FEE", "DEPOSIT", "DEPOSIT"]
    assert await wallet.balance() == Decimal("800.01")
    assert await due_at(wallet) == was_due_at + 4 * FEE_PERIOD
    assert (await fees.run()).due == 0


async def test_a_deposit_that_unblocks_is_replayed_without_another_fee(client: httpx.AsyncClient, fees: FeeDay) -> None:
    wallet = await blocked_wallet(client, fees, holding="100")
    first = await wallet.deposit("500", key="k")
    assert (await wallet.deposit("500", key="k")).content == first.content
    assert await wallet.balance() == 400


async def test_fees_and_payments_at_once_add_up(client: httpx.AsyncClient, fees: FeeDay) -> None:
    """Thirty wallets that owe a fee send each other money while three fee runs go over them."""
    people = [await register(client) for _ in range(30)]
    wallets = [await person.open_wallet(holding="250") for person in people]
    for wallet in wallets:
        await make_due(wallet)
    payments = [
        sender.send("60", receiver) for sender, receiver in zip(wallets, [*wallets[1:], wallets[0]], strict=True)
    ]
    answers, *_ = await asyncio.gather(asyncio.gather(*payments), fees.run(), fees.run(), fees.run())
    assert {answer.status_code for answer in answers} <= {201, 400}
    await fees.run()
    total = Decimal(0)
    for wallet in wallets:
        rows = await wallet.history()
        assert kinds(rows).count("FEE") == (await wallet.shown())["is_active"]
        total += await wallet.balance() + 200 * kinds(rows).count("FEE")
    assert total == 30 * 250
