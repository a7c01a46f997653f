"""The reference document, route by route and in its order: what it says is what happens."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from msgspec import Struct

from app.settings import Settings
from tests.helpers.prices import publish_rates
from tests.helpers.refusals import refusal
from tests.helpers.users import CodeOf, Join, Json, Member
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wallet_processes import RealServer, run_wallet, server

ROUTES = {
    ("GET", "/users/"): 200,
    ("POST", "/users/verify/"): 201,
    ("POST", "/users/create/"): 201,
    ("PATCH", "/users/password/verify/"): 200,
    ("POST", "/users/password/update/"): 201,
    ("POST", "/users/token/create/"): 201,
    ("POST", "/users/token/refresh/"): 201,
    ("PATCH", "/users/update/"): 200,
    ("GET", "/users/wallets/"): 200,
    ("POST", "/users/wallets/create/"): 201,
    ("GET", "/users/wallets/{id}/"): 200,
    ("POST", "/users/wallets/{id}/deposit/"): 201,
    ("GET", "/users/wallets/{id}/transactions/"): 200,
    ("POST", "/users/wallets/{id}/transfer/"): 201,
    ("PATCH", "/users/wallets/{id}/update/"): 200,
    ("POST", "/users/wallets/{id}/withdraw/"): 201,
}
ADDED = {
    ("POST", "/users/wallets/{id}/transfers/"): 201,
    ("POST", "/users/token/revoke/"): 204,
    ("GET", "/users/sessions/"): 200,
    ("DELETE", "/users/sessions/"): 204,
    ("DELETE", "/users/sessions/{id}/"): 204,
    ("POST", "/users/password/reset/"): 201,
    ("POST", "/users/password/reset/verify/"): 201,
}
"""What the API has beyond the document."""

OPEN_TO_ALL = {
    *("/users/create/", "/users/verify/", "/users/token/create/", "/users/token/refresh/", "/users/token/revoke/"),
    *("/users/password/reset/", "/users/password/reset/verify/"),
}

WALLET = {
    *("id", "wallet_number", "name", "amount", "amount_currency", "status", "is_active"),
    *("created_at", "updated_at", "user"),
}
TRANSACTION = {
    *("id", "operation_type", "amount", "amount_currency", "received_amount", "received_currency", "exchange_rate"),
    *("sender", "receiver", "reference", "balance_after", "created_at"),
}
USER = {"id", "email", "phone_number", "first_name", "last_name", "profile_image", "wallets"}

EVE = {"email": "eve@example.com", "phone_number": "+77771112233", "password": "a password of Eve's"}


class Walk(Struct, frozen=True):
    """Ann on her way through the document, under one way of writing the paths."""

    client: httpx.AsyncClient
    ann: Member
    prefix: str
    slash: str

    async def ask(self, method: str, route: str, body: Json | None = None, **ids: int) -> Any:
        """What a route of the document answers, which must have the status that the document gives it."""
        path = self.prefix + route.format(**ids).rstrip("/") + self.slash
        headers = {} if route in OPEN_TO_ALL else self.ann.headers
        answer = await self.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == ROUTES[method, route], f"{method} {path}: {answer.text}"
        assert answer.headers["Content-Type"] == "application/json"
        return answer.json()


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    await publish_rates(settings.redis_url)
    return settings


@pytest.fixture(params=["/", "", "/api/v1/", "/api/v1"])
def walk(request: pytest.FixtureRequest, client: httpx.AsyncClient, ann: Member) -> Walk:
    """With and without the slash at the end, and the same under `/api/v1`."""
    slash = "/" if request.param.endswith("/") else ""
    return Walk(client, ann, request.param.removesuffix("/"), slash)


async def test_the_document_from_its_first_route_to_its_last(walk: Walk, code_of: CodeOf) -> None:
    ann = walk.ann
    user = await walk.ask("GET", "/users/")
    assert user.keys() == USER
    assert user == ann.user

    # The sentences of these two are swapped in the document: `create` starts and `verify` finishes.
    started = await walk.ask("POST", "/users/create/", EVE)
    assert started.keys() == {"session_id", "expires_in", "channels"}
    eve = await walk.ask("POST", "/users/verify/", code(started, await code_of(started)))
    assert eve.keys() == USER
    assert (eve["email"], eve["phone_number"]) == (EVE["email"], EVE["phone_number"])

    # And of these two: `update` starts, `verify` finishes.
    passwords = {"password": ann.password, "new_password": "the next password of Ann's"}
    started = await walk.ask("POST", "/users/password/update/", passwords)
    assert started.keys() == {"session_id", "expires_in"}
    changed = await walk.ask("PATCH", "/users/password/verify/", code(started, await code_of(started)))
    assert changed == user

    credentials = {"phone_number": user["phone_number"], "password": passwords["new_password"]}
    tokens = await walk.ask("POST", "/users/token/create/", credentials)
    assert tokens.keys() == {"access", "refresh", "token_type", "expires_in"}
    assert tokens["token_type"] == "Bearer"
    ann.tokens = tokens  # the change of password has ended her session, and the old access token with it
    more = await walk.ask("POST", "/users/token/refresh/", {"refresh": tokens["refresh"], "access": tokens["access"]})
    assert more.keys() == tokens.keys()
    assert more["refresh"] != tokens["refresh"]

    updated = await walk.ask("PATCH", "/users/update/", {"first_name": "Ann", "last_name": "Lee"})
    assert updated == user | {"first_name": "Ann", "last_name": "Lee"}

    assert await walk.ask("GET", "/users/wallets/") == []
    tenge = await walk.ask("POST", "/users/wallets/create/", {})
    euros = await walk.ask("POST", "/users/wallets/create/", {"name": "Trips", "amount_currency": "EUR"})
    assert tenge.keys() == WALLET
    assert (tenge["name"], tenge["amount"], tenge["amount_currency"]) == ("My wallet", "0.00", "KZT")
    assert (euros["name"], euros["amount_currency"], euros["user"]) == ("Trips", "EUR", user["id"])
    assert await walk.ask("GET", "/users/wallets/") == [tenge, euros]
    assert await walk.ask("GET", "/users/wallets/{id}/", id=tenge["id"]) == tenge
    assert (await walk.ask("GET", "/users/"))["wallets"] == [tenge, euros]

    deposit = await walk.ask("POST", "/users/wallets/{id}/deposit/", {"amount": "5000"}, id=tenge["id"])
    assert deposit.keys() == TRANSACTION
    assert (deposit["operation_type"], deposit["amount"], deposit["balance_after"]) == ("DEPOSIT", "5000.00", "5000.00")
    assert (deposit["sender"], deposit["receiver"]) == (None, {"wallet_number": tenge["wallet_number"]})
    assert await walk.ask("GET", "/users/wallets/{id}/transactions/", id=tenge["id"]) == [deposit]

    body = {"wallet_number": euros["wallet_number"], "amount": "1000.00"}
    transfer = await walk.ask("POST", "/users/wallets/{id}/transfer/", body, id=tenge["id"])
    assert transfer.keys() == TRANSACTION
    assert (transfer["operation_type"], transfer["amount"], transfer["amount_currency"]) == (
        "TRANSFER",
        "1000.00",
        "KZT",
    )
    assert (transfer["received_amount"], transfer["received_currency"]) == ("1.71", "EUR")
    assert transfer["exchange_rate"] == "0.001710842967"
    assert transfer["balance_after"] == "4000.00"

    renamed = await walk.ask("PATCH", "/users/wallets/{id}/update/", {"name": "Daily"}, id=tenge["id"])
    assert renamed == tenge | {"name": "Daily", "amount": "4000.00", "updated_at": renamed["updated_at"]}

    withdrawal = await walk.ask("POST", "/users/wallets/{id}/withdraw/", {"amount": "4000"}, id=tenge["id"])
    assert (withdrawal["operation_type"], withdrawal["balance_after"]) == ("WITHDRAW", "0.00")
    rows = await walk.ask("GET", "/users/wallets/{id}/transactions/", id=tenge["id"])
    assert rows == [withdrawal, transfer, deposit]
    assert await walk.ask("GET", "/users/wallets/{id}/transactions/", id=euros["id"]) == [
        transfer | {"balance_after": "1.71"}
    ]


def code(session: Json, code: str) -> Json:
    """The body that finishes what a session began."""
    return {"session_id": session["session_id"], "code": code}


async def test_the_openapi_document_has_these_routes_with_these_statuses_and_no_others(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/docs/openapi.json")).json()
    described = {
        (method.upper(), path + "/"): int(next(status for status in operation["responses"] if status[0] == "2"))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path.startswith("/users")
    }
    assert described == ROUTES | ADDED


async def test_every_route_but_the_named_ones_wants_a_token(client: httpx.AsyncClient) -> None:
    for method, route in ROUTES | ADDED:
        path = route.format(id=uuid4() if "sessions" in route else 1)
        for way in (path, path.rstrip("/"), f"/api/v1{path}", f"/api/v1{path}".rstrip("/")):
            answer = await client.request(method, way, json={} if method != "GET" else None)
            if route in OPEN_TO_ALL:
                refusal(answer, 400, "validation_failed")
            else:
                refusal(answer, 401, "not_authenticated")


async def test_somebody_elses_wallet_is_not_found_on_any_route(client: httpx.AsyncClient, join: Join) -> None:
    ann = await join(email="ann@example.com", phone_number="+77011234567")
    ben = await join(email="ben@example.com", phone_number="+77017654321")
    walk = Walk(client, ann, "", "/")
    wallet = await walk.ask("POST", "/users/wallets/create/", {})
    await walk.ask("POST", "/users/wallets/{id}/deposit/", {"amount": "5"}, id=wallet["id"])
    transfer = {"amount": "1", "wallet_number": wallet["wallet_number"]}
    body = transfer | {"name": "Ben's now", "transfers": [transfer]}
    tried = 0
    for method, route in ROUTES | ADDED:
        if "wallets/{id}" not in route:
            continue
        # Ann's, one of the system's, and one that nobody has.
        for id in (wallet["id"], 1, 999_999):
            answer = await client.request(
                method, route.format(id=id), json=body if method != "GET" else None, headers=ben.headers
            )
            refusal(answer, 404, "wallet_not_found")
            tried += 1
    assert tried == 21
    assert await walk.ask("GET", "/users/wallets/{id}/", id=wallet["id"]) == wallet | {
        "amount": "5.00",
        "updated_at": (await walk.ask("GET", "/users/wallets/"))[0]["updated_at"],
    }


class TestServed:
    """`wallet serve` with nothing around it: its own servers, its worker, its mail."""

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        # Every user may enter: as root, PostgreSQL runs as somebody else.
        with tempfile.TemporaryDirectory(prefix="wallet-served-") as name:
            folder = Path(name).resolve()
            folder.chmod(0o755)
            yield folder

    @pytest.fixture
    def served(self, folder: Path) -> Iterator[RealServer]:
        with server("serve", folder=folder) as running:
            running.wait_until_live()
            yield running

    def test_two_people_register_by_mail_and_send_money_across_currencies(
        self, served: RealServer, folder: Path
    ) -> None:
        with httpx.Client(base_url=served.url, timeout=GIVE_UP_SECONDS) as client:
            ann, ben = (registered(client, name) for name in ("ann", "ben"))
            wait_for_rates(client)
            tenge = opened(client, ann, "KZT")
            euros = opened(client, ben, "EUR")
            deposit = client.post(f"/users/wallets/{tenge['id']}/deposit/", json={"amount": "50000"}, headers=ann)
            assert deposit.status_code == 201
            body = {"wallet_number": euros["wallet_number"], "amount": "12500.00"}
            headers = ann | {"Idempotency-Key": "one transfer"}
            sent = [
                client.post(f"/users/wallets/{tenge['id']}/transfer/", json=body, headers=headers) for _ in range(2)
            ]
            assert [answer.status_code for answer in sent] == [201, 201]
            assert sent[0].content == sent[1].content
            transfer = sent[0].json()
            assert transfer["balance_after"] == "37500.00"
            history = client.get(f"/users/wallets/{euros['id']}/transactions/", headers=ben).json()
            assert history == [transfer | {"balance_after": transfer["received_amount"]}]

        demo = run_wallet("demo", "--url", served.url, folder=folder)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        audit = run_wallet("audit", folder=folder)
        assert audit.returncode == 0, audit.stdout + audit.stderr
        assert '"ok":true' in audit.stdout.splitlines()[-1]


def registered(client: httpx.Client, name: str) -> dict[str, str]:
    """A new person, confirmed by the code in the mail and signed in: the headers of their requests."""
    digits = {"ann": "+77011234567", "ben": "+77017654321"}[name]
    body = {"email": f"{name}@example.com", "phone_number": digits, "password": "a password of some length"}
    session = client.post("/users/create/", json=body)
    assert session.status_code == 201, session.text
    (mail,) = first_answer(
        lambda: client.get("/dev/mailbox/", params={"to": body["email"]}, headers={"Accept": "application/json"}).json()
    )
    assert mail["to"] == body["email"]
    found = re.search(r"\b\d{6}\b", mail["text"])
    assert found
    verified = client.post("/users/verify/", json=code(session.json(), found[0]))
    assert verified.status_code == 201, verified.text
    del body["email"]
    tokens = client.post("/users/token/create/", json=body)
    assert tokens.status_code == 201, tokens.text
    return {"Authorization": f"Bearer {tokens.json()['access']}"}


def opened(client: httpx.Client, headers: dict[str, str], currency: str) -> Json:
    answer = client.post("/users/wallets/create/", json={"amount_currency": currency}, headers=headers)
    assert answer.status_code == 201
    wallet: Json = answer.json()
    return wallet


def wait_for_rates(client: httpx.Client) -> None:
    """The worker publishes the first ones when it comes up, and each process looks every few seconds."""
    first_answer(lambda: client.get("/health/ready").json()["checks"]["rates"]["status"] == "ok")


def first_answer(question: Any) -> Any:
    """The first answer that is not empty."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while not (answer := question()):
        assert time.monotonic() < give_up_at, "it never came"
        time.sleep(0.05)
    return answer
