"""
Somebody else's ids, on every operation of the OpenAPI document: there is no such thing, and nothing of theirs is told
or changed. A new route is walked without anybody adding it here, or the test fails for want of an id to ask it with.
"""

import re
from collections.abc import Iterator
from time import time
from typing import Any

import httpx
import pytest
from msgspec import Struct
from msgspec.structs import replace

from app.limits.requests import RateLimits
from app.settings import Settings
from db.tables import RefreshToken, Wallet
from tests.helpers.users import CodeOf, Join, Member

MALLORYS_PASSWORD = "incorrect mule capacitor staple"
PUBLIC: list[dict[str, Any]] = [{}]


class Operation(Struct, frozen=True, kw_only=True):
    """One of the document; `is_public` where it wants no token."""

    method: str
    path: str
    is_public: bool


class Victim(Struct, frozen=True, kw_only=True):
    """Ann, who has a wallet with money and a change of password that waits for its code."""

    ann: Member
    wallet: dict[str, Any]
    ids: dict[str, str]
    body: dict[str, Any]

    @property
    def particulars(self) -> list[str]:
        """What nobody else may read."""
        user = self.ann.user
        return [user["id"], user["email"], user["phone_number"], "Annabella", self.wallet["wallet_number"], "4711.17"]

    def address(self, path: str) -> str:
        """The path with Ann's ids in it."""
        for start, name in re.findall(r"([^{]*){(\w+)}", path):
            assert start in self.ids, f"{path}: say in `victim` what `{name}` of Ann's to ask it with"
            path = path.replace(f"{{{name}}}", self.ids[start], 1)
        return path


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is limited."""
    return replace(settings, limits=RateLimits(**dict.fromkeys(RateLimits.__struct_fields__, 0)))


@pytest.fixture
async def operations(client: httpx.AsyncClient) -> list[Operation]:
    document = (await client.get("/docs/openapi.json")).json()

    def each() -> Iterator[Operation]:
        for path, item in document["paths"].items():
            for method, operation in item.items():
                is_public = operation.get("security", document["security"]) == PUBLIC
                for address in (path, f"/api/v1{path}"):
                    yield Operation(method=method.upper(), path=address, is_public=is_public)

    return list(each())


@pytest.fixture
async def victim(client: httpx.AsyncClient, ann: Member, ben: Member, code_of: CodeOf) -> Victim:
    me = ann.headers
    await client.patch("/users/update/", json={"first_name": "Annabella"}, headers=me)
    wallet = (await client.post("/users/wallets/create/", json={}, headers=me)).json()
    paid = await client.post(f"/users/wallets/{wallet['id']}/deposit/", json={"amount": "4711.17"}, headers=me)
    assert paid.status_code == 201
    change = {"password": ann.password, "new_password": "what Ann would like"}
    session = (await client.post("/users/password/update/", json=change, headers=me)).json()
    (family, *_) = await RefreshToken.select(RefreshToken.family).where(RefreshToken.user == ann.user["id"])
    # Every member that any body has; where it is a credential it is the attacker's, for Ann's would rightly do.
    bens = (await client.post("/users/wallets/create/", json={}, headers=ben.headers)).json()
    transfer = {"wallet_number": bens["wallet_number"], "amount": "1.00"}
    body = {
        **transfer,
        "transfers": [transfer],
        "email": ann.user["email"],
        "phone_number": ann.user["phone_number"],
        "user": ann.user["id"],
        "id": wallet["id"],
        "session_id": session["session_id"],
        "code": await code_of(session),
        "password": MALLORYS_PASSWORD,
        "new_password": "what Mallory would like",
        "name": "Mallory's now",
        "amount_currency": "KZT",
        "first_name": "Mallory",
    }
    ids = {"/users/wallets/": str(wallet["id"]), "/users/sessions/": str(family["family"])}
    ids |= {f"/api/v1{start}": id for start, id in ids.items()}
    return Victim(ann=ann, wallet=wallet, ids=ids, body=body)


async def state(victim: Victim) -> Any:
    """All that is Ann's in the database."""
    owner = victim.ann.user["id"]
    return [
        await Wallet.raw('SELECT * FROM "user" WHERE id = {}', owner),
        await Wallet.raw('SELECT * FROM wallet WHERE "user" = {}', owner),
        await Wallet.raw("SELECT * FROM entry WHERE wallet = {}", victim.wallet["id"]),
        await Wallet.raw('SELECT * FROM refresh_token WHERE "user" = {}', owner),
        await Wallet.raw('SELECT * FROM idempotency_key WHERE "user" = {}', owner),
    ]


async def test_nothing_of_anybody_elses_is_told_or_changed(
    client: httpx.AsyncClient, operations: list[Operation], victim: Victim, join: Join
) -> None:
    phone = "+77015550011"
    await join(email="mallory@example.com", phone_number=phone, password=MALLORYS_PASSWORD)
    before = await state(victim)
    walked = 0
    for each in operations:
        # Anew each time: an operation may sign out whoever calls it.
        credentials = {"phone_number": phone, "password": MALLORYS_PASSWORD}
        mallory = (await client.post("/users/token/create/", json=credentials)).json()
        headers = {"Authorization": f"Bearer {mallory['access']}"}
        body = victim.body | {"refresh": mallory["refresh"]}
        answer = await client.request(
            each.method, victim.address(each.path), json=None if each.method == "GET" else body, headers=headers
        )
        if "{" in each.path:
            walked += 1
            assert answer.status_code in (401, 404), f"{each}: {answer.status_code} {answer.text}"
        told = [
            word
            for word in victim.particulars
            if word in answer.text.replace(victim.address(each.path).rstrip("/"), "") or word in str(answer.headers)
        ]
        assert not told, f"{each} told {told}: {answer.text}"
        assert await state(victim) == before, each
    assert walked >= 14


async def test_without_a_token_or_with_a_bad_one_nobody_gets_in(
    client: httpx.AsyncClient,
    operations: list[Operation],
    victim: Victim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access, refresh = victim.ann.tokens["access"], victim.ann.tokens["refresh"]
    with monkeypatch.context() as patch:
        patch.setattr("app.auth.tokens.time", lambda: time() - 86_400)
        credentials = {"phone_number": victim.ann.user["phone_number"], "password": victim.ann.password}
        expired = (await client.post("/users/token/create/", json=credentials)).json()["access"]
    head, claims, signature = access.split(".")
    first = "A" if signature[0] != "A" else "B"
    bad = {
        "tampered": f"{head}.{claims}.{first}{signature[1:]}",
        "other claims": f"{head}.{claims[:-4]}AAAA.{signature}",
        "a refresh token": refresh,
        "expired": expired,
        "empty": "",
    }
    before = await state(victim)
    closed = [each for each in operations if not each.is_public]
    assert len(closed) > 20
    for each in closed:
        path, body = victim.address(each.path), None if each.method == "GET" else victim.body
        assert (await client.request(each.method, path, json=body)).status_code == 401, each
        for name, token in bad.items():
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.request(each.method, path, json=body, headers=headers)
            assert answer.status_code == 401, f"{each} with a token that is {name}: {answer.status_code}"
    assert await state(victim) == before
    right = {"Authorization": f"Bearer {access}"}
    assert (await client.get(victim.address("/users/wallets/{id}"), headers=right)).status_code == 200
