"""Members that nobody asked for: a body changes what its route is for, and nothing else, whoever adds what to it."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from db.tables import Wallet
from tests.helpers.users import Member

FIXED_OF_USERS = 'SELECT id, email, phone_number, password_hash, profile_image, created_at FROM "user" ORDER BY id'
FIXED_OF_WALLETS = (
    'SELECT id, "user", wallet_number, amount_currency, amount, is_active, frozen_at, fee_due_at, created_at'
    ' FROM wallet WHERE "user" IS NOT NULL ORDER BY id'
)


def extras(user: str, wallet: int) -> dict[str, Any]:
    """What somebody would like to be able to set."""
    columns = {column._meta.name for column in Wallet._meta.columns}
    return {
        **dict.fromkeys(columns, "1"),
        "id": wallet,
        "user": user,
        "user_id": user,
        "caller_id": user,
        "wallet_id": wallet,
        "sender_id": wallet,
        "balance": "999999.00",
        "balance_after": "999999.00",
        "received_amount": "999999.00",
        "exchange_rate": "999999",
        "is_active": False,
        "is_admin": True,
        "superuser": True,
        "frozen_at": "2026-01-01T00:00:00Z",
        "fee_due_at": "2099-01-01T00:00:00Z",
        "created_at": "2001-01-01T00:00:00Z",
        "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA",
        "email": "mallory@example.com",
        "phone_number": "+77015550099",
        "operation_type": "ADJUSTMENT",
        "key": "another",
        "__class__": "User",
        "__proto__": {"is_admin": True},
    }


async def fixed() -> tuple[list[Any], list[Any]]:
    return await Wallet.raw(FIXED_OF_USERS), await Wallet.raw(FIXED_OF_WALLETS)


@pytest.fixture
async def wallets(client: httpx.AsyncClient, ann: Member, ben: Member) -> list[dict[str, Any]]:
    found = [(await client.post("/users/wallets/create/", json={}, headers=who.headers)).json() for who in (ann, ben)]
    paid = await client.post(f"/users/wallets/{found[0]['id']}/deposit/", json={"amount": "100"}, headers=ann.headers)
    assert paid.status_code == 201
    return found


async def test_nothing_but_what_is_named_changes(
    client: httpx.AsyncClient, ann: Member, ben: Member, wallets: list[dict[str, Any]]
) -> None:
    mine, his = wallets
    more = extras(ben.user["id"], his["id"])
    path = f"/users/wallets/{mine['id']}"
    orders: list[tuple[str, str, dict[str, Any], int]] = [
        ("PATCH", f"{path}/update/", {"name": "Mine"}, 200),
        ("PATCH", "/users/update/", {"first_name": "Ann", "last_name": "A", "profile_image": None}, 200),
        ("POST", "/users/password/update/", {"password": ann.password, "new_password": "what Ann would like"}, 201),
        ("PATCH", "/users/password/verify/", {"session_id": str(uuid4()), "code": "000000"}, 400),
        ("POST", "/users/verify/", {"session_id": str(uuid4()), "code": "000000"}, 400),
        ("POST", "/users/token/refresh/", {"refresh": ann.tokens["refresh"]}, 201),
        (
            "POST",
            "/users/token/create/",
            {"phone_number": ann.user["phone_number"], "password": ann.password},
            201,
        ),
        (
            "POST",
            "/users/create/",
            {"email": "eve@example.com", "phone_number": "+77010000009", "password": ann.password},
            201,
        ),
    ]
    before = await fixed()
    for method, address, body, status in orders:
        answer = await client.request(method, address, json=more | body, headers=ann.headers)
        assert answer.status_code == status, (address, answer.text)
        assert await fixed() == before, address


async def test_money_moves_by_the_amount_and_the_path_alone(
    client: httpx.AsyncClient, ann: Member, ben: Member, wallets: list[dict[str, Any]]
) -> None:
    mine, his = wallets
    more = extras(ben.user["id"], his["id"])
    transfer = {"wallet_number": his["wallet_number"], "amount": "1.00", "reference": "rent"}
    for action, body, left in (
        ("deposit", {"amount": "5.00"}, "105.00"),
        ("withdraw", {"amount": "3.00"}, "102.00"),
        ("transfer", transfer, "101.00"),
        ("transfers", {"transfers": [more | transfer]}, "100.00"),
    ):
        users, held = await fixed()
        answer = await client.post(f"/users/wallets/{mine['id']}/{action}/", json=more | body, headers=ann.headers)
        assert answer.status_code == 201, answer.text
        assert left in answer.text
        assert "999999" not in answer.text
        users_now, held_now = await fixed()
        assert users_now == users
        strip = [[{name: row[name] for name in row if name != "amount"} for row in rows] for rows in (held, held_now)]
        assert strip[0] == strip[1]
    assert [str(row["amount"]) for row in (await fixed())[1]] == ["100.00", "2.00"]


async def test_a_new_wallet_is_the_callers_and_empty(client: httpx.AsyncClient, ann: Member, ben: Member) -> None:
    more = extras(ben.user["id"], 1)
    body = more | {"amount_currency": "EUR", "name": "Travel"}
    wallet = (await client.post("/users/wallets/create/", json=body, headers=ann.headers)).json()
    assert (wallet["user"], wallet["amount"], wallet["is_active"]) == (ann.user["id"], "0.00", True)
    assert wallet["id"] != 1
    assert wallet["wallet_number"] != "1"
    assert not wallet["created_at"].startswith("2001")
    (row,) = await Wallet.raw(
        "SELECT frozen_at, fee_due_at - created_at AS free FROM wallet WHERE id = {}", wallet["id"]
    )
    assert (row["frozen_at"], row["free"].days) == (None, 30)


async def test_of_a_member_that_is_said_twice_one_counts_and_only_once(
    client: httpx.AsyncClient, ann: Member, wallets: list[dict[str, Any]]
) -> None:
    path = f"/users/wallets/{wallets[0]['id']}/deposit/"
    headers = ann.headers | {"Content-Type": "application/json"}
    answer = await client.post(path, content=b'{"amount": "900", "amount": "7"}', headers=headers)
    assert (answer.status_code, answer.json()["balance_after"]) == (201, "107.00")
