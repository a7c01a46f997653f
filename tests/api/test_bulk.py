"""Many transfers in one request: what each comes to, and what the whole answers."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import httpx
import pytest
from msgspec import Meta
from msgspec.structs import fields

from actors.orders import BULK_MAX
from app.payments.bulk import BULK_BODY_MAX_BYTES
from app.payments.routes import TransferBody
from app.settings import Settings
from db.tables import Wallet
from tests.helpers.prices import publish_rates
from tests.helpers.refusals import refusal
from tests.helpers.users import OpenWallet, Wish, register

REPLAYED = "Idempotent-Replayed"
NOBODY = "0000000000"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    await publish_rates(settings.redis_url)
    return settings


async def cast(client: httpx.AsyncClient, holding: str = "100") -> tuple[OpenWallet, OpenWallet, OpenWallet]:
    """Alice's wallet that holds some money, and two others, one in euros."""
    alice, bob, carol = [await register(client) for _ in range(3)]
    return await alice.open_wallet(holding=holding), await bob.open_wallet(), await carol.open_wallet("EUR")


def items(answer: httpx.Response, status: int) -> list[dict[str, Any]]:
    """What each transfer came to."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), answer.text[:500]
    body = answer.json()
    assert body.keys() == {"transfers"}
    found: list[dict[str, Any]] = body["transfers"]
    for item in found:
        assert item.keys() == ({"status", "transaction"} if item["status"] == 201 else {"status", "problem"})
        if "problem" in item:
            assert item["problem"].keys() == {"type", "title", "status", "detail", "code"}
            assert item["problem"]["status"] == item["status"]
            assert item["problem"]["type"].endswith(item["problem"]["code"])
    return found


def told(answer: httpx.Response, status: int) -> list[str]:
    """`done` or the code of the problem, for each transfer."""
    return [item["problem"]["code"] if "problem" in item else "done" for item in items(answer, status)]


def errors(problem: dict[str, Any]) -> list[tuple[str, str]]:
    """Where an atomic bulk was refused, and why."""
    return [(error["field"], error["code"]) for error in problem["errors"]]


async def test_all_go_through_in_their_order(client: httpx.AsyncClient) -> None:
    mine, his, hers = await cast(client, "5000")
    answer = await mine.send_all([(his, "10", "Rent"), (hers, "1000.00"), (his, "10"), (his, "0.5", "Tea ☕")])
    made = [item["transaction"] for item in items(answer, 201)]
    assert [row["balance_after"] for row in made] == ["4990.00", "3990.00", "3980.00", "3979.50"]
    assert [row["reference"] for row in made] == ["Rent", None, None, "Tea ☕"]
    assert REPLAYED not in answer.headers
    assert (await mine.history())[:4] == made[::-1]
    assert await hers.history() == [made[1] | {"balance_after": "1.71"}]
    balances = iter(["20.50", "20.00", "10.00"])
    assert await his.history() == [row | {"balance_after": next(balances)} for row in (made[3], made[2], made[0])]


async def test_a_reference_is_shown_in_both_histories(client: httpx.AsyncClient) -> None:
    mine, his, _ = await cast(client)
    reference = "Rechnung № 7, 💶 'danke'" + "x" * 116
    sent = (await mine.send("1", his, reference=reference)).json()
    assert sent["reference"] == reference
    assert [(await wallet.history())[0]["reference"] for wallet in (mine, his)] == [reference] * 2
    for unusable in ("", "x" * 141, "two\nlines", "\x00", "\x7f", 7, ["x"]):
        body: dict[str, Any] = {"wallet_number": his.number, "amount": "1", "reference": unusable}
        problem = refusal(await mine.post("transfer", body), 400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == ["reference"]
        problem = refusal(await mine.post("transfers", {"transfers": [body]}), 400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == ["transfers[0].reference"]
    assert (await mine.send("1", his)).json()["reference"] is None
    body = {"wallet_number": his.number, "amount": "1", "reference": None}
    assert (await mine.post("transfer", body)).json()["reference"] is None


async def test_each_is_made_for_itself(client: httpx.AsyncClient) -> None:
    mine, his, hers = await cast(client)
    wishes: list[Wish] = [(his, "60"), (his, "60"), (mine, "1"), (NOBODY, "1"), (hers, "0.01"), ("x", "1"), (his, "40")]
    answer = await mine.send_all(wishes)
    assert told(answer, 207) == [
        *("done", "insufficient_funds", "same_wallet", "wallet_not_found", "amount_too_small", "wallet_not_found"),
        "done",
    ]
    assert [item["status"] for item in items(answer, 207)] == [201, 400, 400, 404, 400, 404, 201]
    assert [await wallet.balance() for wallet in (mine, his, hers)] == [0, 100, 0]
    assert told(await mine.send_all([(his, "1")] * 3), 207) == ["insufficient_funds"] * 3


async def test_all_or_none(client: httpx.AsyncClient) -> None:
    mine, his, hers = await cast(client)
    wishes: list[Wish] = [(his, "60"), (his, "60"), (mine, "1"), (NOBODY, "1"), (hers, "0.01"), (his, "40")]
    problem = refusal(await mine.send_all(wishes, atomic=True), 400, "bulk_refused")
    assert errors(problem) == [
        ("transfers[1]", "insufficient_funds"),
        ("transfers[2]", "same_wallet"),
        ("transfers[5]", "insufficient_funds"),
    ]
    # Only who could pay for all of it is told what is wrong on the receivers' side.
    problem = refusal(await mine.send_all([wishes[0], *wishes[3:5]], atomic=True), 400, "bulk_refused")
    assert errors(problem) == [("transfers[1]", "wallet_not_found"), ("transfers[2]", "amount_too_small")]
    assert [await wallet.balance() for wallet in (mine, his, hers)] == [100, 0, 0]
    assert len(await mine.history()) == 1
    assert told(await mine.send_all([(his, "60"), (his, "40")], atomic=True), 201) == ["done", "done"]
    assert [await wallet.balance() for wallet in (mine, his, hers)] == [0, 100, 0]


@pytest.mark.parametrize("atomic", [False, True])
async def test_somebody_elses_wallet_is_not_found(client: httpx.AsyncClient, atomic: bool) -> None:
    mine, his, hers = await cast(client)
    for id in (his.id, 2**62, 1, 10**30):
        foreign = OpenWallet(mine.owner, id, "")
        refusal(await foreign.send_all([(hers, "1")], atomic=atomic), 404, "wallet_not_found")
    refusal(await foreign.send_all([(hers, "1")], atomic=atomic, key="k"), 404, "wallet_not_found")


@pytest.mark.parametrize(
    ("change", "code"),
    [({Wallet.is_active: False}, "wallet_blocked"), ({Wallet.frozen_at: datetime.now(UTC)}, "wallet_frozen")],
    ids=["blocked", "frozen"],
)
async def test_a_wallet_that_sends_nothing_is_told_so_for_each(
    client: httpx.AsyncClient, change: dict[Any, Any], code: str
) -> None:
    mine, his, _ = await cast(client)
    await Wallet.update(change).where(Wallet.id == mine.id)
    assert told(await mine.send_all([(his, "1"), (his, "2")]), 207) == [code, code]
    problem = refusal(await mine.send_all([(his, "1"), (his, "2")], atomic=True), 400, "bulk_refused")
    assert errors(problem) == [("transfers[0]", code), ("transfers[1]", code)]


def longest() -> dict[str, str]:
    """The most that may be said of a transfer, in the characters that take the most room."""
    said = [field for field in fields(TransferBody) if not field.required]
    limits = {field.name: [each for kind in get_args(field.type) for each in get_args(kind)] for field in said}
    bounds = {name: [each.max_length for each in found if isinstance(each, Meta)] for name, found in limits.items()}
    return {name: "\U0001f4b6" * max(filter(None, lengths)) for name, lengths in bounds.items()}


async def test_a_thousand_is_the_most_and_one_the_least(client: httpx.AsyncClient) -> None:
    mine, his, _ = await cast(client, "1000")
    wishes = [{"wallet_number": his.number, "amount": "0.01", **longest()} for _ in range(BULK_MAX)]
    path = f"/users/wallets/{mine.id}/transfers/"
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"transfers": wishes, "atomic": True}, indent=2).encode()
    assert 64 * 1024 < len(body) < BULK_BODY_MAX_BYTES
    made = items(await mine.owner.request("POST", path, content=body, headers=headers), 201)
    assert [made[n]["transaction"]["balance_after"] for n in (0, 999)] == ["999.99", "990.00"]
    assert len({item["transaction"]["id"] for item in made}) == BULK_MAX
    assert await his.balance() == 10
    for wrong in ([*wishes, wishes[0]], []):
        small = [{**wish, "reference": "x"} for wish in wrong]
        problem = refusal(await mine.post("transfers", {"transfers": small}), 400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == ["transfers"]
    refusal(
        await mine.owner.request("POST", path, content=body + b" " * BULK_BODY_MAX_BYTES, headers=headers),
        413,
        "content_too_large",
    )
    assert await his.balance() == 10


async def test_what_is_not_valid_is_named_by_its_place_and_nothing_happens(client: httpx.AsyncClient) -> None:
    mine, his, _ = await cast(client)
    good = {"wallet_number": his.number, "amount": "1"}
    for bad, field in (
        ({"amount": "1"}, "transfers[1].wallet_number"),
        ({"wallet_number": his.number}, "transfers[1].amount"),
        (good | {"amount": "1e3"}, "transfers[1].amount"),
        (good | {"amount": -1}, "transfers[1].amount"),
        (good | {"amount": None}, "transfers[1].amount"),
        (good | {"wallet_number": 4000000000}, "transfers[1].wallet_number"),
        (None, "transfers[1]"),
        ([], "transfers[1]"),
    ):
        problem = refusal(await mine.post("transfers", {"transfers": [good, bad]}), 400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == [field]
    for body, field in (
        ({"transfers": good}, "transfers"),
        ({}, "transfers"),
        ({"transfers": [good], "atomic": "yes"}, "atomic"),
        ({"transfers": [good], "atomic": None}, "atomic"),
    ):
        problem = refusal(await mine.post("transfers", body), 400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == [field]
    many = {"transfers": [good, good | {"amount": 0}, good | {"amount": "x"}]}
    problem = refusal(await mine.post("transfers", many), 400, "validation_failed")
    assert [error["field"] for error in problem["errors"]] == ["transfers[1].amount", "transfers[2].amount"]
    assert await mine.balance() == 100
    assert told(await mine.post("transfers", {"transfers": [good | {"unknown": 1}], "unknown": 1}), 201) == ["done"]


@pytest.mark.parametrize("atomic", [False, True])
async def test_the_same_bulk_again_gets_the_same_bytes_and_moves_nothing(
    client: httpx.AsyncClient, atomic: bool
) -> None:
    mine, his, hers = await cast(client, "5000")
    wishes: list[Wish] = [(his, "10", "Rent"), (hers, "1000.00"), (his, "10")]
    first = await mine.send_all(wishes, atomic=atomic, key="k")
    assert (first.status_code, REPLAYED in first.headers) == (201, False)
    await mine.withdraw("3980")
    for _ in range(2):
        again = await mine.send_all(wishes, atomic=atomic, key="k")
        assert (again.status_code, again.content, again.headers[REPLAYED]) == (201, first.content, "true")
    assert [await wallet.balance() for wallet in (mine, his)] == [0, 20]


async def test_a_bulk_that_is_repeated_tries_what_was_refused_and_nothing_else(client: httpx.AsyncClient) -> None:
    mine, his, _ = await cast(client)
    wishes: list[Wish] = [(his, "90"), (his, "30"), (NOBODY, "1"), (his, "10")]
    first = items(await mine.send_all(wishes, key="k"), 207)
    assert [item["status"] for item in first] == [201, 400, 404, 201]
    await mine.deposit("50")
    answer = await mine.send_all(wishes, key="k")
    second = items(answer, 207)
    assert [item["status"] for item in second] == [201, 201, 404, 201]
    assert (second[0], second[2], second[3]) == (first[0], first[2], first[3])
    assert REPLAYED not in answer.headers
    assert items(await mine.send_all(wishes, key="k"), 207) == second
    assert [await wallet.balance() for wallet in (mine, his)] == [20, 130]
    assert len({item["transaction"]["id"] for item in second if item["status"] == 201}) == 3


async def test_a_bulk_that_was_refused_is_not_remembered(client: httpx.AsyncClient) -> None:
    mine, his, hers = await cast(client, "10")
    refusal(await mine.send_all([(his, "10"), (his, "10")], atomic=True, key="k"), 400, "bulk_refused")
    assert told(await mine.send_all([(his, "11"), (NOBODY, "1")], key="k"), 207) == [
        "insufficient_funds",
        "wallet_not_found",
    ]
    answer = await mine.send_all([(his, "10")], key="k")
    assert (told(answer, 201), REPLAYED in answer.headers) == (["done"], False)
    for other in (
        mine.send_all([(his, "10")], atomic=True, key="k"),
        mine.send_all([(his, "10", "now with a reference")], key="k"),
        mine.send_all([(hers, "10")], key="k"),
        mine.send("10", his, key="k"),
        mine.deposit("10", key="k"),
    ):
        refusal(await other, 422, "idempotency_key_reused")
    await mine.deposit("10")
    single = await mine.send("10", his, key="single", reference="x")
    refusal(await mine.send_all([(his, "10", "x")], key="single"), 422, "idempotency_key_reused")
    refusal(await mine.send("10", his, key="single"), 422, "idempotency_key_reused")
    assert (await mine.send("10", his, key="single", reference="x")).content == single.content


async def test_amounts_that_are_none_are_named_before_a_wallet_that_is_none(client: httpx.AsyncClient) -> None:
    mine, his, _ = await cast(client)
    nowhere = OpenWallet(mine.owner, "x", mine.number)  # type: ignore[arg-type]
    problem = refusal(await nowhere.send_all([(his, "0"), (his, "1")]), 400, "validation_failed")
    assert [error["field"] for error in problem["errors"]] == ["transfers[0].amount"]
    for answer in (await nowhere.send("0", his), await nowhere.deposit("0"), await nowhere.withdraw("0")):
        refusal(answer, 404, "wallet_not_found")
