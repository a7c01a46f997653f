"""Deposits, withdrawals and transfers, within a currency and across."""

import asyncio
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from app.settings import Settings
from db.currencies import SYSTEM_WALLET_IDS
from db.tables import Wallet
from tests.helpers.prices import PER_DOLLAR, publish_rates
from tests.helpers.refusals import refusal
from tests.helpers.users import OpenWallet, register

CENT = Decimal("0.01")


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    """With rates published before the application starts."""
    await publish_rates(settings.redis_url)
    return settings


async def test_a_deposit(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    response = await wallet.deposit("1000.5")
    assert response.status_code == 201
    transaction = response.json()
    assert transaction == {
        "id": transaction["id"],
        "operation_type": "DEPOSIT",
        "amount": "1000.50",
        "amount_currency": "KZT",
        "received_amount": "1000.50",
        "received_currency": "KZT",
        "exchange_rate": None,
        "sender": None,
        "receiver": {"wallet_number": wallet.number},
        "reference": None,
        "balance_after": "1000.50",
        "created_at": transaction["created_at"],
    }
    assert abs(datetime.fromisoformat(transaction["created_at"]) - datetime.now(UTC)).total_seconds() < 60
    assert await wallet.history() == [transaction]


async def test_a_withdrawal(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet("USD", holding="10")
    response = await wallet.withdraw("9.99")
    assert response.status_code == 201
    transaction = response.json()
    assert transaction == {
        "id": transaction["id"],
        "operation_type": "WITHDRAW",
        "amount": "9.99",
        "amount_currency": "USD",
        "received_amount": "9.99",
        "received_currency": "USD",
        "exchange_rate": None,
        "sender": {"wallet_number": wallet.number},
        "receiver": None,
        "reference": None,
        "balance_after": "0.01",
        "created_at": transaction["created_at"],
    }


async def test_a_transfer_within_a_currency(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="1000.00"), await bob.open_wallet()
    response = await mine.send("250.5", his)
    assert response.status_code == 201
    transaction = response.json()
    assert transaction == {
        "id": transaction["id"],
        "operation_type": "TRANSFER",
        "amount": "250.50",
        "amount_currency": "KZT",
        "received_amount": "250.50",
        "received_currency": "KZT",
        "exchange_rate": None,
        "sender": {"wallet_number": mine.number},
        "receiver": {"wallet_number": his.number},
        "reference": None,
        "balance_after": "749.50",
        "created_at": transaction["created_at"],
    }
    assert await his.history() == [{**transaction, "balance_after": "250.50"}]
    assert [row["operation_type"] for row in await mine.history()] == ["TRANSFER", "DEPOSIT"]


async def test_everything_can_be_sent_and_not_a_cent_more(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="100.00"), await bob.open_wallet()
    refusal(await mine.send("100.01", his), 400, "insufficient_funds")
    refusal(await mine.withdraw("100.01"), 400, "insufficient_funds")
    assert (await mine.send("100.00", his)).json()["balance_after"] == "0.00"
    refusal(await mine.send("0.01", his), 400, "insufficient_funds")
    assert await his.balance() == 100


async def test_deposits_fill_a_wallet_to_their_limit_and_it_receives_beyond_that(client: httpx.AsyncClient) -> None:
    """A refusal would tell the sender what the receiver holds."""
    most = "999999999999.99"
    alice, bob = await register(client), await register(client)
    full, other = await alice.open_wallet(holding=most), await bob.open_wallet(holding=most)
    refusal(await full.deposit("0.01"), 400, "balance_limit")
    assert (await other.send(most, full)).json()["received_amount"] == most
    assert (await full.balance(), await other.balance()) == (Decimal("1999999999999.98"), Decimal(0))
    assert [row["balance_after"] for row in await full.history()] == ["1999999999999.98", most]
    refusal(await full.deposit("0.01"), 400, "balance_limit")
    for left in ("999999999999.99", "0.00"):
        assert (await full.send(most, other)).json()["balance_after"] == left


async def test_a_number_that_no_wallet_has(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet(holding="10")
    for number in ("0000000000", "123", "", "12345678901", "١٢٣٤٥٦٧٨٩٠", "abcdefghij", " 4000000000", "x" * 64):
        refusal(await wallet.send("1", number), 404, "wallet_not_found")
    assert await wallet.balance() == 10


async def test_nobody_sends_to_the_system_wallets_that_keep_the_books(client: httpx.AsyncClient, app: Any) -> None:
    wallet = await (await register(client)).open_wallet(holding="10")
    numbers = await Wallet.select(Wallet.wallet_number).where(Wallet.system.is_not_null())
    assert len(numbers) == len(SYSTEM_WALLET_IDS)
    for row in numbers:
        refusal(await wallet.send("1", row["wallet_number"]), 404, "wallet_not_found")


async def test_a_transfer_across_currencies_names_its_rate_and_rounds_down_to_the_cent(
    client: httpx.AsyncClient,
) -> None:
    """Three hundred transfers of any amount between each pair of currencies."""
    alice, bob = await register(client), await register(client)
    mine = [await alice.open_wallet(currency, holding="500000000000") for currency in PER_DOLLAR]
    his = [await bob.open_wallet(currency) for currency in PER_DOLLAR]
    random = Random(2)

    async def send(sender: OpenWallet, receiver: OpenWallet) -> None:
        amount = Decimal(random.randint(10_000, 10 ** random.randint(5, 10))) / 100
        response = await sender.send(str(amount), receiver)
        assert response.status_code == 201, response.text
        transaction = response.json()
        sent, got = transaction["amount_currency"], transaction["received_currency"]
        assert Decimal(transaction["amount"]) == amount
        if sent == got:
            assert (transaction["exchange_rate"], transaction["received_amount"]) == (None, transaction["amount"])
        else:
            rate = Decimal(transaction["exchange_rate"])
            assert abs(rate - PER_DOLLAR[got] / PER_DOLLAR[sent]) <= Decimal("1e-12")
            floor = (amount * rate).quantize(CENT, rounding=ROUND_DOWN)
            assert transaction["received_amount"] == str(floor)

    await asyncio.gather(*(send(random.choice(mine), random.choice(his)) for _ in range(300)))
    rows = [row for wallet in his for row in await wallet.history(limit=200)]
    assert len(rows) == 300
    assert len({(row["amount_currency"], row["received_currency"]) for row in rows}) == len(PER_DOLLAR) ** 2
    for wallet in his:
        received = sum(Decimal(row["received_amount"]) for row in await wallet.history(limit=200))
        assert await wallet.balance() == received


async def test_both_sides_see_the_same_rate_and_amounts(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    tenge, euros = await alice.open_wallet(holding="10000"), await alice.open_wallet("EUR")
    transaction = (await tenge.send("10000", euros)).json()
    # A dollar costs 0.876543 EUR or 512.345678 KZT; 10000 KZT are 17.10842967 EUR.
    assert transaction["exchange_rate"] == "0.001710842967"
    assert transaction["received_amount"] == "17.10"
    assert await euros.history() == [{**transaction, "balance_after": "17.10"}]
    assert (await tenge.history())[0] == transaction


async def test_what_would_arrive_as_nothing_is_not_sent(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    tenge, dollars = await alice.open_wallet(holding="10"), await alice.open_wallet("USD")
    refusal(await tenge.send("5.12", dollars), 400, "amount_too_small")
    assert await tenge.balance() == 10
    assert (await tenge.send("5.13", dollars)).json()["received_amount"] == "0.01"


AMOUNTS = [b"200", b"200.0", b"200.00", b'"200"', b'"200.0"', b'"200.00"', b' "200.00" ', b"\n200\t"]

NO_AMOUNTS = [
    *(b"1e3", b'"1e3"', b"1E3", b"2e2", b"0.1e1", b"NaN", b"Infinity", b"-Infinity", b'"NaN"', b'"Infinity"', b'"inf"'),
    *(b"true", b"false", b"null", b'""', b'" "', b'" 5"', b'"5 "', b'"+5"', b'"-5"', b"-5", b"-0.01", b"+5"),
    *(b"0", b'"0"', b"0.0", b'"0.00"', b"-0", b"0.001", b'"0.001"', b"5.000", b'"5.000"', b"200.001", b'"200.001"'),
    *(b'"1,5"', b'"1 000"', b'"1_000"', b'"1.5.5"', b'"."', b'".5"', b'"5."', b'"05"', b"05", b'"00"', b'"0x10"'),
    *('"١٢"'.encode(), '"५"'.encode(), '"5\N{NO-BREAK SPACE}"'.encode(), '"\N{FULLWIDTH DIGIT FIVE}"'.encode()),
    *(b'"\\u0035"', b'"5\\n"', b'"5\\u0000"', b'"\\ud800"', b'"5\xff"', b"\xff", b'"KZT 5"', b'"5 KZT"', b'"$5"'),
    *(b"1000000000000", b'"1000000000000"', b'"1000000000000.00"', b"1000000000000.00", b'"999999999999.999"'),
    *(b"9" * 5000, b'"' + b"9" * 5000 + b'"', b"0." + b"0" * 5000 + b"1", b"1" + b"0" * 400, b"1e400", b"1e-400"),
    *(b"[]", b"[5]", b'["5"]', b"{}", b'{"amount": 5}', b"[" * 500 + b"]" * 500),
]


@pytest.mark.parametrize("action", ["deposit", "withdraw", "transfer"])
async def test_an_amount_is_positive_has_at_most_two_decimals_and_is_written_plainly(
    client: httpx.AsyncClient, action: str
) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="5000"), await bob.open_wallet()
    path = f"/users/wallets/{mine.id}/{action}/"

    async def post(amount: bytes) -> httpx.Response:
        number = b'"wallet_number": "%b", ' % his.number.encode() if action == "transfer" else b""
        body = b'{%b"amount": %b}' % (number, amount)
        return await alice.request("POST", path, content=body, headers={"Content-Type": "application/json"})

    for amount in NO_AMOUNTS:
        problem = refusal(await post(amount), 400, "validation_failed")
        # What is not even JSON has no fields.
        if "errors" in problem:
            assert [error["field"] for error in problem["errors"]] == ["amount"], amount
        else:
            assert not is_json(amount), amount
    assert [await wallet.balance() for wallet in (mine, his)] == [5000, 0]
    for amount in AMOUNTS:
        response = await post(amount)
        assert (response.status_code, response.json()["amount"]) == (201, "200.00"), amount
    moved = 200 * len(AMOUNTS)
    assert await mine.balance() == (5000 + moved if action == "deposit" else 5000 - moved)


async def test_the_largest_and_the_smallest_amount(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(), await bob.open_wallet()
    assert (await mine.post("deposit", {"amount": "999999999999.99"})).status_code == 201
    assert (await mine.send("999999999999.99", his)).json()["received_amount"] == "999999999999.99"
    assert (await his.withdraw("0.01")).json()["balance_after"] == "999999999999.98"


async def test_the_largest_amount_as_a_number_keeps_its_cents(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    path = f"/users/wallets/{wallet.id}/deposit/"
    response = await wallet.owner.request("POST", path, content=b'{"amount": 999999999999.99}')
    assert response.json()["balance_after"] == "999999999999.99"


def is_json(text: bytes) -> bool:
    """Whether a strict reader takes it for JSON."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
