"""Races over HTTP, through one real server process and through two on one database. Each ends with the audit."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from random import Random

import asyncpg
import httpx
import pytest

from db.engine import Pool, connection_pool, engine
from db.servers.embedded import Servers
from tests.helpers.postgres import assert_audit
from tests.helpers.prices import PER_DOLLAR, publish_rates
from tests.helpers.users import OpenWallet, register
from tests.helpers.wallet_processes import RealServer, Spread, api_servers


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
async def fleet(
    request: pytest.FixtureRequest, servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[RealServer]]:
    """The processes, on a database of their own that lasts for all the races."""
    assert servers.database_url
    assert servers.redis_url
    name = f"races_{request.param}"
    server = await asyncpg.connect(servers.database_url)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = servers.database_url.rsplit("/", 1)[0] + f"/{name}"
    engine().config["dsn"] = url
    await publish_rates(servers.redis_url)
    folder = tmp_path_factory.mktemp(name)
    with api_servers(request.param, database_url=url, redis_url=servers.redis_url, folder=folder) as running:
        # The pool is for putting people into the database, and for the audit.
        async with connection_pool(Pool()):
            yield running
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
async def client(fleet: list[RealServer]) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests go to all the processes in turn; what it did must pass the audit."""
    async with httpx.AsyncClient(transport=Spread(fleet), base_url="http://wallet.test", timeout=60) as client:
        yield client
    await assert_audit()


def outcomes(responses: list[httpx.Response]) -> Counter[str]:
    """How often each answer was given: `ok`, or the code of a refusal."""
    return Counter("ok" if response.status_code == 201 else response.json()["code"] for response in responses)


async def test_of_64_withdrawals_of_everything_one_happens(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet(holding="777.77")
    answers = await asyncio.gather(*(wallet.withdraw("777.77") for _ in range(64)))
    assert outcomes(answers) == {"ok": 1, "insufficient_funds": 63}
    assert await wallet.balance() == 0
    assert [row["operation_type"] for row in await wallet.history()] == ["WITHDRAW", "DEPOSIT"]


async def test_of_ten_payments_of_30_from_100_three_happen(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="100"), await bob.open_wallet()
    answers = await asyncio.gather(*(mine.send("30", his) for _ in range(10)))
    assert outcomes(answers) == {"ok": 3, "insufficient_funds": 7}
    assert (await mine.balance(), await his.balance()) == (Decimal(10), Decimal(90))


async def test_transfers_that_cross_by_the_hundred_all_arrive(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="150"), await bob.open_wallet(holding="150")
    crossing = [transfer for _ in range(150) for transfer in (mine.send("1", his), his.send("1", mine))]
    assert outcomes(await asyncio.gather(*crossing)) == {"ok": 300}
    assert (await mine.balance(), await his.balance()) == (Decimal(150), Decimal(150))
    for wallet in (mine, his):
        # One more than the transfers, and the limit of a page lets it be seen that there is one.
        assert len(await wallet.history(limit=200, operation_type="TRANSFER")) == 200


async def test_forty_requests_under_one_key_are_one_movement_and_one_answer(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(holding="1000"), await bob.open_wallet("EUR")
    answers = await asyncio.gather(*(mine.send("900", his, key="rent") for _ in range(40)))
    assert outcomes(answers) == {"ok": 40}
    assert len({answer.content for answer in answers}) == 1
    first = [answer for answer in answers if "Idempotent-Replayed" not in answer.headers]
    assert len(first) == 1
    assert await mine.balance() == Decimal(100)
    assert len(await his.history()) == 1


async def test_one_key_for_forty_different_requests_moves_money_once(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    answers = await asyncio.gather(*(wallet.deposit(f"{n}.00", key="pay") for n in range(1, 41)))
    assert outcomes(answers) == {"ok": 1, "idempotency_key_reused": 39}
    winner = next(answer.json() for answer in answers if answer.status_code == 201)
    assert await wallet.balance() == Decimal(winner["amount"])


async def test_of_twelve_attempts_at_a_second_wallet_one_succeeds(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    await alice.open_wallet("KZT")
    path, body = "/users/wallets/create/", {"amount_currency": "EUR"}
    answers = await asyncio.gather(*(alice.request("POST", path, json=body) for _ in range(12)))
    assert outcomes(answers) == {"ok": 1, "wallet_exists": 11}
    wallets = (await alice.request("GET", "/users/wallets/")).json()
    assert [wallet["amount_currency"] for wallet in wallets] == ["KZT", "EUR"]


async def test_what_was_answered_is_what_happened(client: httpx.AsyncClient) -> None:
    """Four hundred random movements among wallets of each currency, three of each, all at once."""
    people = [await register(client) for _ in range(3)]
    wallets = [await person.open_wallet(currency, holding="300") for person in people for currency in PER_DOLLAR]
    balances = {wallet.number: Decimal(300) for wallet in wallets}
    random = Random(1)
    answers = await asyncio.gather(*(random_movement(random, wallets) for _ in range(400)))
    assert outcomes(answers).keys() <= {"ok", "insufficient_funds", "amount_too_small"}
    moved = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(moved) > 100
    for transaction in moved:
        if sender := transaction["sender"]:
            balances[sender["wallet_number"]] -= Decimal(transaction["amount"])
        if receiver := transaction["receiver"]:
            balances[receiver["wallet_number"]] += Decimal(transaction["received_amount"])
    assert {wallet.number: await wallet.balance() for wallet in wallets} == balances
    written = {row["id"] for wallet in wallets for row in await wallet.history(limit=200)}
    assert {transaction["id"] for transaction in moved} == written - await first_deposits(wallets)


async def random_movement(random: Random, wallets: list[OpenWallet]) -> httpx.Response:
    """A deposit, a withdrawal, or most often a transfer."""
    amount = f"{random.randint(1, 30_000) / 100:.2f}"
    one, other = random.sample(wallets, 2)
    kind = random.choice(["deposit", "withdraw", "transfer", "transfer", "transfer"])
    if kind == "transfer":
        return await one.send(amount, other)
    return await one.post(kind, {"amount": amount})


async def first_deposits(wallets: list[OpenWallet]) -> set[str]:
    """What the wallets were opened with."""
    return {(await wallet.history(limit=200))[-1]["id"] for wallet in wallets}
