"""`Idempotency-Key`: one key, one movement, one answer."""

import asyncio
from random import Random
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.helpers.prices import publish_rates
from tests.helpers.refusals import refusal
from tests.helpers.users import OpenWallet, register

REPLAYED = "Idempotent-Replayed"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    await publish_rates(settings.redis_url)
    return settings


@pytest.mark.parametrize("action", ["deposit", "withdraw", "transfer", "transfer across currencies"])
async def test_the_same_request_again_gets_the_same_bytes_and_moves_nothing(
    client: httpx.AsyncClient, action: str
) -> None:
    alice, bob = await register(client), await register(client)
    mine = await alice.open_wallet(holding="1000")
    his = await bob.open_wallet("EUR" if "across" in action else "KZT")
    body: dict[str, Any] = {"amount": "333.33"}
    if "transfer" in action:
        body["wallet_number"] = his.number
    first = await mine.post(action.split()[0], body, key="k")
    assert (first.status_code, REPLAYED in first.headers) == (201, False)
    balances = await mine.balance(), await his.balance()
    await mine.deposit("50")  # what has happened since does not change the answer
    for _ in range(3):
        again = await mine.post(action.split()[0], body, key="k")
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers[REPLAYED] == "true"
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert (await mine.balance() - 50, await his.balance()) == balances


async def test_an_amount_is_the_same_however_it_is_written(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    first = await wallet.deposit("200.00", key="k")
    for amount in ("200", "200.0", 200, 200.0):
        again = await wallet.post("deposit", {"amount": amount, "unknown": "field"}, key="k")
        assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
    assert await wallet.balance() == 200


async def test_a_key_is_for_one_body_one_route_and_one_wallet(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, euros = await alice.open_wallet(holding="100"), await alice.open_wallet("EUR", holding="100")
    his, dollars = await bob.open_wallet(), await bob.open_wallet("USD")
    assert (await mine.send("10", his, key="k")).status_code == 201
    for other in (
        mine.send("10.01", his, key="k"),
        mine.send("10", euros, key="k"),
        mine.send("10", dollars, key="k"),
        mine.deposit("10", key="k"),
        mine.withdraw("10", key="k"),
        euros.send("10", his, key="k"),
        euros.deposit("10", key="k"),
    ):
        refusal(await other, 422, "idempotency_key_reused")
    assert [await wallet.balance() for wallet in (mine, euros, his, dollars)] == [90, 100, 10, 0]


async def test_a_refusal_is_not_remembered(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(), await bob.open_wallet()
    refusal(await mine.send("10", his, key="k"), 400, "insufficient_funds")
    refusal(await mine.send("nothing", his, key="k"), 400, "validation_failed")
    refusal(await mine.send("10", mine, key="k"), 400, "same_wallet")
    await mine.deposit("10")
    refusal(await mine.send("10", "0000000000", key="k"), 404, "wallet_not_found")
    sent = await mine.send("10", his, key="k")
    assert (sent.status_code, REPLAYED in sent.headers) == (201, False)


async def test_a_success_is_remembered_though_it_could_not_happen_again(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet(holding="10")
    first = await wallet.withdraw("10", key="k")
    assert (await wallet.withdraw("10", key="k")).content == first.content
    refusal(await wallet.withdraw("10", key="another"), 400, "insufficient_funds")


async def test_two_people_may_use_the_same_key(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine, his = await alice.open_wallet(), await bob.open_wallet()
    for wallet in (mine, his):
        deposit = await wallet.deposit("5", key="monday")
        assert (deposit.status_code, REPLAYED in deposit.headers) == (201, False)
    assert [await wallet.balance() for wallet in (mine, his)] == [5, 5]


async def test_somebody_elses_wallet_is_not_found_with_a_key_either(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    mine = await alice.open_wallet()
    await mine.deposit("5", key="k")
    hers = OpenWallet(bob, mine.id, mine.number)
    refusal(await hers.deposit("5", key="k"), 404, "wallet_not_found")


async def test_a_key_is_1_to_255_printable_ascii_characters(client: httpx.AsyncClient) -> None:
    wallet = await (await register(client)).open_wallet()
    printable = "".join(map(chr, range(0x21, 0x7F)))
    for n, key in enumerate(("k", "a b", printable, "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"')):
        assert (await wallet.deposit("1", key=key)).json()["balance_after"] == f"{n + 1}.00"
    for unusable in (b"", b"x" * 256, b"\x00", b"a\x7fb", b"a\tb", "ключ".encode(), b"\xff", b"caf\xe9"):
        response = await wallet.owner.request(
            "POST", f"/users/wallets/{wallet.id}/deposit/", json={"amount": "1"}, headers={"Idempotency-Key": unusable}
        )
        problem = refusal(response, 400, "validation_failed")
        assert len(problem["errors"]) == 1
    assert await wallet.balance() == 5


async def test_a_thousand_requests_under_few_keys_move_what_each_keys_first_one_asked(
    client: httpx.AsyncClient,
) -> None:
    """Random requests of two people, several at once, checked against a dict of what each key was first used for."""
    people = [await register(client) for _ in range(2)]
    wallets = [await person.open_wallet(currency) for person in people for currency in ("KZT", "EUR")]
    random = Random(4)
    first: dict[tuple[Any, str], tuple[object, bytes]] = {}
    for _ in range(125):
        asked = [
            (wallet, random.choice(["deposit", "withdraw"]), str(random.randint(1, 3)), f"k{random.randint(1, 40)}")
            for wallet in random.choices(wallets, k=8)
        ]
        answers = await asyncio.gather(*(wallet.post(act, {"amount": sum}, key) for wallet, act, sum, key in asked))
        # Whoever was first among those that came together says so; the others must agree with it.
        pairs = sorted(zip(asked, answers, strict=True), key=lambda pair: REPLAYED in pair[1].headers)
        for (wallet, action, amount, key), answer in pairs:
            used, what = (wallet.owner.user_id, key), (wallet.id, action, amount)
            if answer.status_code == 201 and REPLAYED not in answer.headers:
                assert used not in first
                first[used] = (what, answer.content)
        for (wallet, action, amount, key), answer in pairs:
            used, what = (wallet.owner.user_id, key), (wallet.id, action, amount)
            if answer.status_code == 201:
                assert first[used] == (what, answer.content)
            elif answer.status_code == 422:
                assert first[used][0] != what
            else:
                refusal(answer, 400, "insufficient_funds")
    assert len(first) > 60
    written = sum([len(await wallet.history(limit=200)) for wallet in wallets])
    assert written == len(first)
