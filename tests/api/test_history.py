"""A wallet's history: its order, its pages, its filters, and that it explains the balance."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.settings import Settings
from tests.helpers.prices import publish_rates
from tests.helpers.users import OpenWallet, register

Rows = list[dict[str, Any]]


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    await publish_rates(settings.redis_url)
    return settings


async def pages(wallet: OpenWallet, query: str = "") -> "list[Rows]":
    """All pages, from the newest on, as the Link headers lead from one to the next."""
    found: list[Rows] = []
    path: str | None = f"/users/wallets/{wallet.id}/transactions/{query}"
    while path:
        response = await wallet.owner.request("GET", path)
        assert response.status_code == 200, response.text
        found.append(response.json())
        path = next_page(response)
    return found


def next_page(response: httpx.Response) -> str | None:
    """Where the Link header leads (RFC 8288)."""
    if "Link" not in response.headers:
        return None
    assert response.links.keys() == {"next"}
    return response.links["next"]["url"]


async def test_a_new_wallet_has_no_history(client: httpx.AsyncClient) -> None:
    assert await pages(await (await register(client)).open_wallet()) == [[]]


async def test_the_newest_comes_first_and_fifty_make_a_page(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    made = [(await wallet.deposit(f"{n}.00")).json()["id"] for n in range(1, 52)]
    first, second = await pages(wallet)
    assert [row["id"] for row in first + second] == made[::-1]
    assert (len(first), len(second)) == (50, 1)
    assert [len(page) for page in await pages(wallet, "?limit=51")] == [51]
    assert [len(page) for page in await pages(wallet, "?limit=50&operation_type=DEPOSIT")] == [50, 1]
    assert [len(page) for page in await pages(wallet, "?limit=17")] == [17, 17, 17]
    assert len(await pages(wallet, "?limit=1")) == 51


async def test_pages_have_no_gap_and_no_repeat_while_money_goes_on_moving(client: httpx.AsyncClient) -> None:
    """Five hundred transactions in pages of 37; ten new ones arrive between any two pages, and during them."""
    alice, bob = await register(client), await register(client)
    wallet, other = await alice.open_wallet(), await bob.open_wallet(holding="100000")
    await asyncio.gather(*(wallet.deposit("1") if n % 2 else other.send("1", wallet) for n in range(500)))
    path: str | None = f"/users/wallets/{wallet.id}/transactions/?limit=37"
    seen: Rows = []
    while path:
        response, *_ = await asyncio.gather(
            alice.request("GET", path),
            *(wallet.deposit("1") for _ in range(5)),
            *(other.send("1", wallet) for _ in range(5)),
        )
        seen += response.json()
        path = next_page(response)
    everything = [row for page in await pages(wallet, "?limit=200") for row in page]
    assert len(everything) > 600
    newest = everything.index(seen[0])
    assert seen == everything[newest:]
    assert len(seen) >= 500
    assert len({row["id"] for row in everything}) == len(everything)


async def test_the_balances_explain_each_other_and_the_balance(client: httpx.AsyncClient) -> None:
    """Two hundred random movements between wallets of every currency, many at once."""
    people = [await register(client) for _ in range(2)]
    wallets = [await person.open_wallet(currency, holding="500") for person in people for currency in ("KZT", "EUR")]
    random = Random(3)
    for _ in range(10):
        await asyncio.gather(*(move(random, wallets) for _ in range(20)))
    for wallet in wallets:
        balance = Decimal(0)
        for row in reversed(await wallet.history(limit=200)):
            balance += came_in(row, wallet)
            assert Decimal(row["balance_after"]) == balance
        assert await wallet.balance() == balance


async def move(random: Random, wallets: list[OpenWallet]) -> None:
    one, other = random.sample(wallets, 2)
    amount = str(random.randint(1, 200))
    await random.choice([one.deposit, one.withdraw, lambda amount: one.send(amount, other)])(amount)


def came_in(row: dict[str, Any], wallet: OpenWallet) -> Decimal:
    """What a transaction did to a wallet's balance, by what it says of itself."""
    change = Decimal(0)
    if row["sender"] == {"wallet_number": wallet.number}:
        change -= Decimal(row["amount"])
    if row["receiver"] == {"wallet_number": wallet.number}:
        change += Decimal(row["received_amount"])
    return change


async def test_an_operation_type_leaves_the_others_out(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(), await bob.open_wallet()
    for _ in range(5):
        await mine.deposit("10")
        await mine.withdraw("1")
        await mine.send("2", his)
    for operation_type in ("DEPOSIT", "WITHDRAW", "TRANSFER"):
        found = await pages(mine, f"?limit=2&operation_type={operation_type}")
        assert [len(page) for page in found] == [2, 2, 1]
        assert {row["operation_type"] for page in found for row in page} == {operation_type}
    assert await mine.history(operation_type="FEE") == []
    assert {row["operation_type"] for row in await his.history()} == {"TRANSFER"}


async def test_since_is_inclusive_and_until_is_not(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    for _ in range(7):
        await wallet.deposit("1")
    rows = (await wallet.history())[::-1]
    assert len({row["created_at"] for row in rows}) == 7
    for n, row in enumerate(rows):
        at = row["created_at"]
        assert await wallet.history(since=at) == rows[n:][::-1]
        assert await wallet.history(until=at) == rows[:n][::-1]
        assert await wallet.history(since=at, until=at) == []
        # The same instant, said in another time zone.
        local = datetime.fromisoformat(at) + timedelta(hours=5)
        assert await wallet.history(since=local.strftime("%Y-%m-%dT%H:%M:%S.%f+05:00")) == rows[n:][::-1]
    assert await wallet.history(since=rows[2]["created_at"], until=rows[5]["created_at"]) == rows[2:5][::-1]
    assert await wallet.history(since="2100-01-01T00:00:00Z") == []
    assert len(await wallet.history(since="1999-12-31T23:59:59-12:00", until="2100-01-01T00:00:00Z")) == 7


async def test_a_link_keeps_the_query_it_came_from(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    for _ in range(5):
        await wallet.deposit("1")
    oldest = (await wallet.history())[-1]["created_at"].replace("Z", "%2B00:00")
    response = await wallet.owner.request(
        "GET", f"/users/wallets/{wallet.id}/transactions/?operation_type=DEPOSIT&limit=2&since={oldest}"
    )
    link = next_page(response)
    assert link
    query = parse_qs(urlsplit(link).query)
    assert query.keys() == {"operation_type", "limit", "since", "cursor"}
    assert query["since"] == [oldest.replace("%2B", "+")]
    assert [len(page) for page in await pages(wallet, f"?operation_type=DEPOSIT&limit=2&since={oldest}")] == [2, 2, 1]


async def test_a_link_leads_on_under_the_prefix_it_came_from(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    for _ in range(3):
        await wallet.deposit("1")
    response = await wallet.owner.request("GET", f"/api/v1/users/wallets/{wallet.id}/transactions?limit=2")
    link = next_page(response)
    assert link
    assert urlsplit(link).path.startswith("/api/v1/")
    assert len((await wallet.owner.request("GET", link)).json()) == 1


async def test_a_cursor_shows_nobody_elses_history(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(), await bob.open_wallet()
    for _ in range(3):
        await mine.deposit("1")
        await his.deposit("2")
    response = await alice.request("GET", f"/users/wallets/{mine.id}/transactions/?limit=1")
    link = next_page(response)
    assert link
    cursor = parse_qs(urlsplit(link).query)["cursor"][0]
    assert {row["amount"] for row in await his.history(cursor=cursor)} <= {"2.00"}


async def test_what_is_wrong_with_a_question_is_said_in_words(
    subtests: pytest.Subtests, client: httpx.AsyncClient
) -> None:
    wallet = await (await register(client)).open_wallet()
    for query, message in [
        ({"limit": 0}, "limit: Expected at least 1."),
        ({"limit": "many"}, "limit: Expected a whole number, not text."),
        ({"operation_type": "PAY"}, "operation_type: Expected one of DEPOSIT, WITHDRAW, TRANSFER, FEE."),
        ({"since": "yesterday"}, "since: Expected an instant with its time zone, such as 2026-11-23T12:00:00Z."),
    ]:
        with subtests.test(msg=f"{query!r:.60}"):
            answer = await wallet.owner.request("GET", f"/users/wallets/{wallet.id}/transactions/", params=query)
            assert (answer.status_code, answer.json()["detail"]) == (400, message)
