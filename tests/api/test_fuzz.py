"""
Whatever the OpenAPI document allows and what it does not, by the thousand, from somebody who is signed in: every answer
is a success or a problem document that blames the request, and the audit holds.

`FUZZ_REQUESTS=100000 pytest tests/api/test_fuzz.py` goes on for longer than an ordinary run does.
"""

import os
from collections import Counter
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st
from litestar import Litestar
from msgspec import Struct
from msgspec.structs import replace

from app.limits.requests import RateLimits
from app.settings import Settings
from tests.helpers.prices import publish_rates
from tests.helpers.request_bodies import Document, anything, bodies, texts
from tests.helpers.users import PASSWORD, Member, tokens_of

IN_A_ROW = 10  # requests of one example: what one leaves behind is what the next one meets
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "600"))
UNLIMITED = RateLimits(**dict.fromkeys(RateLimits.__struct_fields__, 0))


class Fuzzed(Struct, frozen=True, kw_only=True):
    """A request that is to be sent."""

    operation: str
    method: str
    path: str
    query: dict[str, str]
    body: bytes
    headers: dict[str, bytes]


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    """Nothing is limited, and money can be converted."""
    await publish_rates(settings.redis_url)
    return replace(settings, limits=UNLIMITED)


@pytest.fixture
async def fuzzed(client: httpx.AsyncClient, ann: Member, ben: Member) -> st.SearchStrategy[list[Fuzzed]]:
    """Rows of requests, with ids, numbers and tokens of two people who have wallets and money."""
    wallets = [await open_wallet(client, who, currency) for who in (ann, ben) for currency in ("KZT", "USD")]
    document = (await client.get("/docs/openapi.json")).json()
    known: dict[str, list[Any]] = {
        "amount": ["1.00", "0.01", 1, 2.5, "999999999999.99", "0", "-1", "0.001"],
        "wallet_number": [wallet["wallet_number"] for wallet in wallets],
        "refresh": [ann.tokens["refresh"], ben.tokens["refresh"]],
        "phone_number": [ann.user["phone_number"], ben.user["phone_number"], "+77010000001"],
        "email": [ann.user["email"], "eve@example.com"],
        "password": [PASSWORD, "something else"],
        "code": ["123456"],
    }
    ids = st.sampled_from([str(wallet["id"]) for wallet in wallets]) | texts.filter(bool).map(plain)
    each = [
        an_operation(document, method.upper(), path, operation, known, ids)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    return st.lists(st.one_of(each), min_size=IN_A_ROW, max_size=IN_A_ROW)


async def open_wallet(client: httpx.AsyncClient, who: Member, currency: str) -> dict[str, Any]:
    body = {"amount_currency": currency}
    wallet: dict[str, Any] = (await client.post("/users/wallets/create/", json=body, headers=who.headers)).json()
    paid = await client.post(f"/users/wallets/{wallet['id']}/deposit/", json={"amount": "500"}, headers=who.headers)
    assert paid.status_code == 201, paid.text
    return wallet


def plain(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def an_operation(
    document: Document,
    method: str,
    path: str,
    operation: Document,
    known: dict[str, list[Any]],
    ids: st.SearchStrategy[str],
) -> st.SearchStrategy[Fuzzed]:
    """Requests to one operation, at either of its addresses."""
    names = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    values = st.sampled_from(["1", "DEPOSIT", "2026-11-23T12:00:00Z", ""]) | anything.map(str)
    keys = st.sampled_from([b"rent", b"rent-2", b"\xe9"]) | st.binary(max_size=300)
    wanted = st.fixed_dictionaries({"Content-Type": st.just(b"application/json")}, optional={"Idempotency-Key": keys})
    return st.builds(
        Fuzzed,
        operation=st.just(f"{method} {path}"),
        method=st.just(method),
        path=st.builds(
            lambda start, wallet: start + path.replace("{id}", wallet), st.sampled_from(["", "/api/v1"]), ids
        ),
        query=st.dictionaries(st.sampled_from([*names, "unknown"]), values.map(plain), max_size=3),
        body=bodies(document, operation, known) if "requestBody" in operation else st.just(b""),
        headers=wanted,
    )


@how(max_examples=-(-REQUESTS // IN_A_ROW), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_no_request_is_answered_with_a_fault_of_ours(
    client: httpx.AsyncClient,
    app: Litestar,
    ann: Member,
    fuzzed: st.SearchStrategy[list[Fuzzed]],
    data: st.DataObject,
) -> None:
    # In a session that no request can end: some sign out, and what came after would be turned away at the door.
    authorization = b"Authorization", b"Bearer " + tokens_of(app).access(UUID(ann.user["id"]), uuid4()).encode()
    for each in data.draw(fuzzed):
        answer = await client.request(
            each.method,
            each.path + "?" + "&".join(f"{name}={value}" for name, value in each.query.items()),
            content=each.body,
            headers=[*((name.encode(), value) for name, value in each.headers.items()), authorization],
        )
        SEEN[answer.status_code] += 1
        assert answer.status_code < 500, (each, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json", (each, answer.text)
            assert answer.json()["code"] != "internal_error"


SEEN: Counter[int] = Counter()


def test_it_was_no_waste_of_time() -> None:
    """What came before met successes as well as refusals of each kind: it did not stop at the door."""
    if not SEEN:
        pytest.skip("the requests were sent by another process of this run")
    print(f"\n{sum(SEEN.values())} requests: {dict(sorted(SEEN.items()))}")
    assert {200, 201, 400, 404} <= SEEN.keys()
    assert SEEN[201] > REQUESTS // 50
    assert SEEN[401] < REQUESTS // 5
