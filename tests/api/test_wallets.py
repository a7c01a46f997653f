"""Opening, listing, looking at and renaming wallets."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from db.tables import Wallet
from tests.helpers.refusals import refusal
from tests.helpers.users import Person, register

WALLETS = "/users/wallets/"


async def test_a_wallet_is_opened_empty_and_in_tenge_unless_told_otherwise(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    response = await alice.request("POST", f"{WALLETS}create/", json={})
    assert response.status_code == 201
    wallet = response.json()
    assert wallet == {
        "id": wallet["id"],
        "wallet_number": wallet["wallet_number"],
        "name": "My wallet",
        "amount": "0.00",
        "amount_currency": "KZT",
        "status": "ACTIVE",
        "is_active": True,
        "created_at": wallet["created_at"],
        "updated_at": wallet["created_at"],
        "user": str(alice.user_id),
    }
    assert isinstance(wallet["id"], int)
    assert len(wallet["wallet_number"]) == 10
    assert wallet["wallet_number"].isdecimal()
    assert abs(datetime.fromisoformat(wallet["created_at"]) - datetime.now(UTC)).total_seconds() < 60


async def test_a_person_has_at_most_one_wallet_in_a_currency(client: httpx.AsyncClient) -> None:
    for person in (await register(client), await register(client)):
        for currency in ("USD", "KZT", "EUR"):
            opened = await person.request("POST", f"{WALLETS}create/", json={"amount_currency": currency})
            assert (opened.status_code, opened.json()["amount_currency"]) == (201, currency)
            again = await person.request("POST", f"{WALLETS}create/", json={"amount_currency": currency})
            refusal(again, 400, "wallet_exists")
        assert [wallet["amount_currency"] for wallet in await wallets_of(person)] == ["USD", "KZT", "EUR"]


async def test_a_person_sees_their_own_wallets_everywhere_alike(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    assert await wallets_of(alice) == []
    mine, dollars = await alice.open_wallet(holding="12.5"), await alice.open_wallet("USD")
    await bob.open_wallet(holding="99")
    seen = [await mine.shown(), await dollars.shown()]
    assert [wallet["amount"] for wallet in seen] == ["12.50", "0.00"]
    assert await wallets_of(alice) == seen
    assert (await alice.request("GET", "/users/")).json()["wallets"] == seen


async def test_no_other_currencies_are_known(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    others: list[Any] = ["RUB", "kzt", "", " KZT", "KZT\u0000", None, 5, ["KZT"], {}]
    for currency in others:
        answer = await alice.request("POST", f"{WALLETS}create/", json={"amount_currency": currency})
        problem = refusal(answer, 400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == ["amount_currency"]
    assert await wallets_of(alice) == []


GOOD_NAMES = {
    "x": "x",
    "x" * 30: "x" * 30,
    "  holidays ": "holidays",
    "Отпуск": "Отпуск",
    "💰" * 30: "💰" * 30,
    "<b>&\"'": "<b>&\"'",
    "'; DROP TABLE wallet; --": "'; DROP TABLE wallet; --",
}
BAD_NAMES = ["", " ", "x" * 31, "💰" * 31, "a\nb", "a\u0000b", "\u007f", 5, ["x"], {}, True]


async def test_a_name_has_up_to_30_characters_and_can_be_changed(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    wallet = await alice.open_wallet(holding="7")
    before = await wallet.shown()
    for given, kept in GOOD_NAMES.items():
        renamed = await alice.request("PATCH", f"{WALLETS}{wallet.id}/update/", json={"name": given})
        assert renamed.status_code == 200
        after = renamed.json()
        assert after == {**before, "name": kept, "updated_at": after["updated_at"]}
        assert after["updated_at"] > before["updated_at"]
        assert await wallet.shown() == after
    for name in BAD_NAMES:
        for method, path in (("PATCH", f"{WALLETS}{wallet.id}/update/"), ("POST", f"{WALLETS}create/")):
            body = {"name": name, "amount_currency": "EUR"} if method == "POST" else {"name": name}
            problem = refusal(await alice.request(method, path, json=body), 400, "validation_failed")
            assert [error["field"] for error in problem["errors"]] == ["name"]
    assert await wallets_of(alice) == [after]


async def test_a_new_wallet_takes_the_same_names(client: httpx.AsyncClient) -> None:
    for given, kept in GOOD_NAMES.items():
        opened = await (await register(client)).request("POST", f"{WALLETS}create/", json={"name": given})
        assert (opened.status_code, opened.json()["name"]) == (201, kept)


async def test_an_update_changes_the_name_and_nothing_else(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    wallet, other = await alice.open_wallet(holding="7"), await alice.open_wallet("EUR")
    before = await wallet.shown()
    body: dict[str, Any] = {
        "amount": "1000000.00",
        "amount_currency": "USD",
        "is_active": False,
        "wallet_number": "1234567890",
    }
    body |= {"id": other.id, "user": str(UUID(int=0)), "fee_due_at": "2099-01-01T00:00:00Z"}
    untouched = await alice.request("PATCH", f"{WALLETS}{wallet.id}/update/", json=body)
    assert (untouched.status_code, untouched.json()) == (200, before)
    renamed = await alice.request("PATCH", f"{WALLETS}{wallet.id}/update/", json={**body, "name": "Mine"})
    assert renamed.json() == {**before, "name": "Mine", "updated_at": renamed.json()["updated_at"]}
    assert (await other.shown())["name"] == "My wallet"


async def test_nobody_opens_a_wallet_with_money_in_it(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    body = {"amount": "1000.00", "wallet_number": "1234567890", "id": 1, "is_active": False, "system": "cash"}
    opened = (await alice.request("POST", f"{WALLETS}create/", json=body)).json()
    assert (opened["amount"], opened["is_active"]) == ("0.00", True)
    assert opened["wallet_number"] != "1234567890"


async def wallets_of(person: Person) -> list[dict[str, Any]]:
    response = await person.request("GET", WALLETS)
    assert response.status_code == 200
    wallets: list[dict[str, Any]] = response.json()
    return wallets


async def test_the_owner_sees_what_holds_a_wallet_up(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    alice = await register(client)
    wallet = await alice.open_wallet()
    for active, frozen, status in [
        (True, False, "ACTIVE"),
        (False, False, "BLOCKED"),
        (True, True, "FROZEN"),
        (False, True, "FROZEN"),
    ]:
        with subtests.test(msg=f"{active=} {frozen=}"):
            change: dict[Any, Any] = {Wallet.is_active: active, Wallet.frozen_at: datetime.now(UTC) if frozen else None}
            await Wallet.update(change).where(Wallet.id == wallet.id)
            profile = (await alice.request("GET", "/users/")).json()
            for shown in (await wallet.shown(), *await wallets_of(alice), *profile["wallets"]):
                assert (shown["status"], shown["is_active"]) == (status, status == "ACTIVE")
