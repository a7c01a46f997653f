"""Whatever is sent, it is answered with a problem of a 4xx status, and no money moves."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar

from db.tables import Wallet
from tests.helpers.refusals import refusal
from tests.helpers.users import OpenWallet, register
from tests.helpers.wallet_processes import RealServer, api_servers

JSON = {"Content-Type": "application/json"}

# Each example is a request or a few to the same application, which is the point: it must survive all of them.
many = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def mine(client: httpx.AsyncClient) -> AsyncIterator[OpenWallet]:
    """A wallet that holds 100.00 and goes on holding it; nobody else's changes either."""
    wallet = await (await register(client)).open_wallet(holding="100")
    before = await ledger()
    yield wallet
    assert await ledger() == before
    assert (await wallet.deposit("1")).json()["balance_after"] == "101.00"


async def ledger() -> dict[str, Any]:
    """What would be different if money had moved."""
    (row,) = await Wallet.raw(
        'SELECT (SELECT count(*) FROM "transaction") AS transactions, (SELECT count(*) FROM entry) AS entries,'
        " (SELECT count(*) FROM idempotency_key) AS keys, (SELECT sum(amount) FROM wallet) AS held"
    )
    found: dict[str, Any] = row
    return found


def turned_down(response: httpx.Response) -> dict[str, Any]:
    """Some refusal, for which whoever asked is to blame."""
    assert 400 <= response.status_code < 500, f"{response.request.url}: {response.status_code} {response.text[:500]}"
    return refusal(response, response.status_code, response.json()["code"])


# Any text, half surrogate pairs and NUL bytes too; JSON can write them all, as escapes.
texts = st.text(st.characters(), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
FIELDS = (
    *("name", "amount_currency", "wallet_number", "email", "phone_number", "password", "new_password", "session_id"),
    *("code", "refresh", "access", "first_name", "last_name", "profile_image", "id", "user", "transfers", "atomic"),
)
bodies = values | st.dictionaries(st.sampled_from(FIELDS) | texts, values, max_size=6)


def written(value: Any) -> bytes:
    """As JSON, and as Python writes it: NaN, Infinity and half surrogate pairs are what a careless client sends."""
    return json.dumps(value).encode()


async def every_route(app: Litestar, wallet: OpenWallet) -> list[tuple[str, str]]:
    """Method and path of all that takes a body, from the application's own OpenAPI document."""
    document = (await wallet.owner.client.get("/docs/openapi.json")).json()
    routes = [
        (method.upper(), path.format(id=wallet.id))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "requestBody" in operation
    ]
    assert len(routes) >= 12
    return routes


# All their fields can be left out, and fields that nobody knows are not looked at.
MAY_BE_EMPTY = ("/users/update", "/users/wallets/create", "/update")


class TestBodies:
    """Every body of every route."""

    @many
    @given(body=bodies.map(written) | st.binary(max_size=200))
    async def test_any_json_and_any_bytes(self, app: Litestar, mine: OpenWallet, body: bytes) -> None:
        for method, path in await every_route(app, mine):
            response = await mine.owner.request(method, path, content=body, headers=JSON)
            if not (response.is_success and path.endswith(MAY_BE_EMPTY)):
                turned_down(response)

    @many
    @given(amount=values, field=st.sampled_from(["amount", "wallet_number"]))
    async def test_any_value_where_an_amount_or_a_number_belongs(
        self, mine: OpenWallet, amount: Any, field: str
    ) -> None:
        other = {"amount": "1.00", "wallet_number": "0000000000"}
        response = await mine.post("transfer", other)
        assert response.status_code == 404
        for action in ("deposit", "withdraw", "transfer"):
            body = written(other | {field: amount})
            if field == "amount" and is_amount(amount):
                continue
            if field == "wallet_number" and action != "transfer":
                continue
            path = f"/users/wallets/{mine.id}/{action}/"
            turned_down(await mine.owner.request("POST", path, content=body, headers=JSON))

    @many
    @given(
        items=st.lists(
            values
            | st.fixed_dictionaries(
                {"wallet_number": st.just("0000000000") | values, "amount": st.just("1") | values},
                optional={"reference": st.just("x") | values, "id": values},
            ),
            max_size=4,
        ),
        atomic=st.booleans() | values,
    )
    async def test_any_values_as_the_transfers_of_a_bulk(self, mine: OpenWallet, items: Any, atomic: Any) -> None:
        body = written({"transfers": items, "atomic": atomic})
        response = await mine.owner.request("POST", f"/users/wallets/{mine.id}/transfers", content=body, headers=JSON)
        if response.status_code == 207:
            assert len(response.json()["transfers"]) == len(items)
            assert {item["problem"]["code"] for item in response.json()["transfers"]} <= {
                *("wallet_not_found", "insufficient_funds"),
            }
        else:
            turned_down(response)

    async def test_bodies_that_were_made_to_hurt(self, app: Litestar, mine: OpenWallet) -> None:
        deep = 30_000
        hurting = [
            *(b"", b" ", b"\x00", b"\xff\xfe\x00\x00", b"\xef\xbb\xbf{}", b"null", b'"', b"{", b"}", b"[", b"-", b"1e"),
            *(b"[" * deep, b'{"amount":' * 5000, b"[" * deep + b"]" * deep, b'{"a":' * 9000 + b"1" + b"}" * 9000),
            *(b'{"amount": 1e99999}', b'{"amount": ' + b"9" * 60_000 + b"}", b'{"amount": "\xed\xa0\x80"}'),
            *(b'{"amount": "1", "amount": "-1"}', b'{"amount": "1"} {"amount": "2"}', b'{"amount": "1"}\x00'),
            *(b"{'amount': 1}", b'{"amount": 1,}', b'{"amount": 01}', b'/**/{"amount": 1}', b'{"Amount": 1}'),
            *(b'{"amount\\u0000": 1}', b'{"\\ud800": 1}', b'{"\xff": 1}', b'{"name": "\\ud800"}', b'{"name": "\xff"}'),
        ]
        for method, path in await every_route(app, mine):
            for body in hurting:
                response = await mine.owner.request(method, path, content=body, headers=JSON)
                if not (response.is_success and path.endswith(MAY_BE_EMPTY)):
                    turned_down(response)

    async def test_ten_megabytes_are_too_large_announced_or_not(self, app: Litestar, mine: OpenWallet) -> None:
        large = b'{"name": "' + b"x" * 10 * 1024 * 1024 + b'"}'

        async def unannounced() -> AsyncIterator[bytes]:
            for start in range(0, len(large), 65_536):
                yield large[start : start + 65_536]

        for method, path in await every_route(app, mine):
            refusal(await mine.owner.request(method, path, content=large, headers=JSON), 413, "content_too_large")
            response = await mine.owner.request(method, path, content=unannounced(), headers=JSON)
            refusal(response, 413, "content_too_large")

    async def test_only_json_is_read(self, app: Litestar, mine: OpenWallet) -> None:
        for method, path in await every_route(app, mine):
            for media_type in (
                *("text/plain", "application/xml", "application/x-www-form-urlencoded", "application/jsonp", "json"),
                *("application/json-patch+json", "application/msgpack", "nonsense", "/", "x" * 5000),
            ):
                response = await mine.owner.request(
                    method, path, content=b'{"amount": "1"}', headers={"Content-Type": media_type}
                )
                refusal(response, 415, "unsupported_media_type")

    async def test_json_may_say_its_charset(self, mine: OpenWallet) -> None:
        for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/json;x=y"):
            path = f"/users/wallets/{mine.id}/update/"
            response = await mine.owner.request(
                "PATCH", path, content=b'{"name": "Caf\xc3\xa9"}', headers={"Content-Type": media_type}
            )
            assert (response.status_code, response.json()["name"]) == (200, "Café")


def is_amount(value: Any) -> bool:
    """Whether this happens to be an amount that is above zero and in bounds."""
    if isinstance(value, str):
        whole, _, cents = value.partition(".")
        digits = value.isascii() and whole.isdecimal() and (cents.isdecimal() or not cents)
        return digits and 0 < float(value) < 10**12
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**12


IDS = [
    *(
        "0",
        "-1",
        "-0",
        "+1",
        str(2**31),
        str(2**63 - 1),
        str(2**63),
        str(10**30),
        "9" * 4000,
        "abc",
        "1.5",
        "1e3",
        "0x10",
    ),
    *("%00", "1%00", "%0a1", "1%0a", "%20", "1%20", "%", "%zz", "%ff", "%ed%a0%80", "1%2f2", "*"),
    *(
        quote("\N{ARABIC-INDIC DIGIT ONE}"),
        quote("\N{CIRCLED DIGIT TWO}"),
        "null",
        "None",
        "true",
        "[]",
        "{}",
        "1;2",
        "1,2",
        "'",
        "%27%20OR%201=1--",
        "💰",
    ),
]


class TestPaths:
    """Ids that no wallet has."""

    async def test_an_id_that_no_wallet_can_have(self, mine: OpenWallet) -> None:
        for id in IDS:
            for method, action in (
                *(("GET", ""), ("GET", "transactions/"), ("PATCH", "update/")),
                *(("POST", "deposit/"), ("POST", "withdraw/"), ("POST", "transfer/")),
            ):
                body = {"amount": "1", "wallet_number": mine.number, "name": "Mine"} if method != "GET" else None
                response = await mine.owner.request(method, f"/users/wallets/{id}/{action}", json=body)
                problem = turned_down(response)
                assert problem["status"] in (404, 405), (id, action, problem)

    @many
    @given(id=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=40))
    async def test_any_text_as_an_id(self, mine: OpenWallet, id: str) -> None:
        if id == str(mine.id):
            return
        path = f"/users/wallets/{quote(id, safe='')}/deposit/"
        assert turned_down(await mine.owner.request("POST", path, json={"amount": "1"}))["status"] in (404, 405)

    async def test_a_leading_zero_is_no_other_wallet(self, mine: OpenWallet) -> None:
        response = await mine.owner.request("GET", f"/users/wallets/0{mine.id}/")
        assert response.status_code == 404 or response.json()["id"] == mine.id


BAD_QUERIES = [
    *("limit=0", "limit=201", "limit=-1", "limit=abc", "limit=", "limit=1.5", "limit=%D9%A1", "limit=%00"),
    *(f"limit={10**30}", "limit=NaN", "limit=true", "limit=[]", "limit=0x10", "limit=%ff", "limit=null"),
    *("operation_type=", "operation_type=deposit", "operation_type=REFUND", "operation_type=%00"),
    *("operation_type=DEPOSIT%00", "operation_type=%ff", "operation_type=DEPOSIT'--"),
    *(f"{bound}={value}" for bound in ("since", "until") for value in (
        *("", "abc", "now", "0", "2026", "2026-11-23", "2026-11-23T12:00:00", "2026-13-45T00:00:00Z", "%00", "%ff"),
        *("2026-11-23T25:00:00Z", "2026-11-23T12:00:00+99:99", "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "1e10", "-1", "infinity"),
        *("2026-02-30T00:00:00Z", "2026-11-23T12:00:00ZZ", "'; DROP TABLE entry; --", "x" * 5000),
    )),
    *("cursor=abc", "cursor=%00", "cursor=AAAA", "cursor=" + "A" * 11 + "=", "cursor=__________8", "cursor=%ff"),
    *("cursor=" + "A" * 5000, "cursor=💰", "cursor=12", "cursor=-1", "cursor=AAAAAAAAAAAA", "cursor=%D9%A1"),
    *("limit=1&limit=0", "limit=0&operation_type=x&since=y&until=z&cursor=%00"),
]  # fmt: skip


class TestQueries:
    """What no history can be asked for."""

    async def test_a_query_that_makes_no_sense_names_its_parameter(self, mine: OpenWallet) -> None:
        for query in BAD_QUERIES:
            response = await mine.owner.request("GET", f"/users/wallets/{mine.id}/transactions/?{query}")
            problem = refusal(response, 400, "validation_failed")
            named = {error["field"] for error in problem["errors"]}
            assert named <= {each.split("=")[0] for each in query.split("&")}, query
            assert named

    @many
    @given(
        name=st.sampled_from(["limit", "operation_type", "since", "until", "cursor", "unknown"]),
        value=st.binary(max_size=30),
    )
    async def test_any_bytes_as_a_parameter(self, mine: OpenWallet, name: str, value: bytes) -> None:
        path = f"/users/wallets/{mine.id}/transactions/?{name}={quote(value)}"
        response = await mine.owner.request("GET", path)
        assert response.is_success or turned_down(response)["status"] == 400


class TestHeaders:
    """Tokens and keys that are none."""

    @many
    @given(key=st.binary(min_size=256, max_size=400) | st.binary(max_size=20).map(lambda text: text + b"\xe9"))
    async def test_any_bytes_as_an_idempotency_key(self, mine: OpenWallet, key: bytes) -> None:
        response = await mine.owner.request(
            "POST", f"/users/wallets/{mine.id}/deposit/", json={"amount": "1"}, headers={"Idempotency-Key": key}
        )
        refusal(response, 400, "validation_failed")

    @many
    @given(token=st.binary(max_size=60) | st.text("abcdefghij.-_= ", max_size=60).map(str.encode))
    async def test_any_bytes_as_a_token(self, mine: OpenWallet, token: bytes) -> None:
        for scheme in (b"Bearer ", b"bearer  ", b""):
            response = await mine.owner.client.get("/users/wallets/", headers=[(b"Authorization", scheme + token)])
            assert turned_down(response)["status"] == 401

    async def test_two_tokens_and_two_keys_move_nothing_twice(self, client: httpx.AsyncClient) -> None:
        alice, mallory = await register(client), await register(client)
        wallet = await alice.open_wallet()
        path = f"/users/wallets/{wallet.id}/deposit/"
        for first, second in ((alice, mallory), (mallory, alice)):
            headers = [("Authorization", f"Bearer {person.token}") for person in (first, second)]
            response = await client.post(path, json={"amount": "1"}, headers=headers)
            assert response.status_code in (201, 400, 401, 404)
        keys = [("Authorization", f"Bearer {alice.token}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        answers = [await client.post(path, json={"amount": "1"}, headers=keys) for _ in range(2)]
        assert [answer.status_code for answer in answers] in ([201, 201], [400, 400])
        if answers[0].is_success:
            assert answers[1].headers["Idempotent-Replayed"] == "true"


class TestOnTheWire:
    """What no client library would send, to a real process."""

    @pytest.fixture
    def server(self, database: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
        with api_servers(1, database_url=database, redis_url=redis_url, folder=tmp_path) as (running,):
            yield running

    async def test_requests_that_are_hardly_http(self, server: RealServer) -> None:
        for request in (
            *(b"\r\n\r\n", b"\x00\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00"),
            get(b"/users/\x00/"),
            get(b"/users/\xff\xfe/"),
            get(b"/users/wallets/%ff%00%zz/"),
            get(b"/users/wallets/" + b"1" * 50_000),
            get(b"/users/wallets/1/transactions/?" + b"limit=1&" * 5000),
            get(b"/users/", b"Authorization: Bearer " + b"x" * 200_000),
            get(b"/users/", b"Authorization: Bearer \xff\xfe\x80"),
            get(b"/users/", b"X-Long-" + b"x" * 60_000 + b": y"),
            get(b"/users/", *(b"X-Many-%d: y" % n for n in range(2000))),
            get(b"/users/", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
            get(b"/users/", b"Content-Length: -1"),
            get(b"/users/", b"Content-Length: 99999999999999999999"),
            get(b"/users/", b"X-Request-ID: a\x00b"),
            get(b"http://elsewhere/users/"),
            get(b"*"),
            get(b"//"),
            get(b"/../../etc/passwd"),
        ):
            status = said(server, request)
            assert status is None or 400 <= status < 500, (request[:80], status)
        assert server.process.poll() is None
        server.wait_until_live()
        assert "Traceback" not in server.output.read_text()


def get(target: bytes, *headers: bytes) -> bytes:
    """The bytes of a GET request."""
    return b"\r\n".join(
        [b"GET " + target + b" HTTP/1.1", b"Host: wallet.test", b"Connection: close", *headers, b"", b""]
    )


def said(server: RealServer, request: bytes) -> int | None:
    """The status that a server answers to these bytes, if it answers."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except OSError:  # closed before all was sent, which says "not connected" where it has been noticed already
            return None
    return int(answer.split(b" ", 2)[1]) if answer else None
