"""The OpenAPI document: whole, consistent with itself, and true of what the routes answer."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.helpers.users import Member, register

Document = dict[str, Any]


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Document:
    answer = await client.get("/docs/openapi.json")
    assert answer.status_code == 200
    found: Document = answer.json()
    return found


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Each operation: its method, path and description."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


async def test_operations_come_in_the_order_in_which_a_person_meets_them(document: Document) -> None:
    assert [f"{method} {path}" for method, path, _ in operations(document)] == [
        *("POST /users/create", "POST /users/verify"),
        *("POST /users/token/create", "POST /users/token/refresh", "POST /users/token/revoke"),
        *("GET /users", "PATCH /users/update"),
        *("GET /users/sessions", "DELETE /users/sessions", "DELETE /users/sessions/{id}"),
        *("POST /users/password/update", "PATCH /users/password/verify"),
        *("POST /users/password/reset", "POST /users/password/reset/verify"),
        *("POST /users/wallets/create", "GET /users/wallets", "GET /users/wallets/{id}"),
        "PATCH /users/wallets/{id}/update",
        *("POST /users/wallets/{id}/deposit", "POST /users/wallets/{id}/withdraw"),
        *("POST /users/wallets/{id}/transfer", "POST /users/wallets/{id}/transfers"),
        "GET /users/wallets/{id}/transactions",
        *("GET /health/live", "GET /health/ready"),
    ]


def references(node: Any) -> Iterator[str]:
    """Every `$ref` in the document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: Document, schema: Document) -> Document:
    """The schema itself where it is a reference to one."""
    while "$ref" in schema:
        node: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            node = node[step]
        schema = node
    return schema


async def test_it_is_openapi_3_1_and_every_reference_leads_somewhere(document: Document) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    found = list(references(document))
    assert found
    for reference in found:
        assert reference.startswith("#/components/")
        resolve(document, {"$ref": reference})
    assert len({operation["operationId"] for _, _, operation in operations(document)}) == len(
        list(operations(document))
    )


async def test_every_operation_is_described_with_its_success_and_its_problems(document: Document) -> None:
    for method, path, operation in operations(document):
        name = f"{method} {path}"
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        successes = {status for status in operation["responses"] if status.startswith("2")}
        assert successes == ({"201", "207"} if path.endswith("/transfers") else successes & {"200", "201", "204"}), name
        assert len(successes - {"207"}) == 1, name
        for status, said in operation["responses"].items():
            response = resolve(document, said)
            assert response["description"] != HTTPStatus(int(status)).description or status == "204", name
            if status == "204":
                assert "content" not in response, name
                continue
            ((media_type, content),) = response["content"].items()
            schema = resolve(document, content["schema"])
            assert schema, name
            if status.startswith("2") or (path, status) == ("/health/ready", "503"):
                assert media_type == "application/json", name
            else:
                assert media_type == "application/problem+json", f"{name} {status}"
                assert {"type", "title", "status", "detail", "instance", "code"} <= set(schema["required"])
        if not path.startswith("/health"):
            assert "503" in operation["responses"], name
        if "{" in path:
            assert "404" in operation["responses"], name
        if "requestBody" in operation:
            assert operation["requestBody"]["required"], name
            assert {"400", "415"} <= operation["responses"].keys(), name
            assert "application/json" in operation["requestBody"]["content"], name
        declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), name
        for parameter in operation.get("parameters", []):
            assert parameter["schema"], name
            assert parameter.get("description") or parameter["schema"].get("enum"), f"{name} {parameter['name']}"


async def test_it_tells_what_is_answered_before_a_handler_and_in_which_headers(document: Document) -> None:
    for method, path, operation in operations(document):
        name = f"{method} {path}"
        assert {"431", "500"} <= operation["responses"].keys(), name
        for status in ("408", "501"):
            assert ("requestBody" in operation) == (status in operation["responses"]), f"{name} {status}"
        for status, said in operation["responses"].items():
            response = resolve(document, said)
            for header in response["headers"].values():
                assert resolve(document, header)["schema"], name
            wanted = {"401": {"WWW-Authenticate"}, "429": {"Retry-After", "RateLimit"}, "503": {"Retry-After"}}
            assert {"X-Request-ID"} | wanted.get(status, set()) <= response["headers"].keys(), f"{name} {status}"
            for content in response.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    instance = example["value"].get("instance") if isinstance(example["value"], dict) else None
                    assert not instance or re.fullmatch(path.replace("{id}", "[0-9a-f-]+"), instance), (
                        f"{name} {status}"
                    )


async def test_the_headers_of_answers_are_told(document: Document, client: httpx.AsyncClient, ann: Member) -> None:
    told = document["components"]["headers"].keys()
    wallet = (await client.post("/users/wallets/create/", json={}, headers=ann.headers)).json()
    one = {"amount": "1"}
    sent = {"wallet_number": "0000000000", **one}
    credentials = {"phone_number": ann.user["phone_number"], "password": ann.password}
    key = {"Idempotency-Key": "once"}
    asked: list[tuple[str, str, Document, set[str]]] = [
        ("POST", "/users/wallets/{id}/deposit", {"json": one, "headers": key}, set()),
        ("POST", "/users/wallets/{id}/deposit", {"json": one, "headers": key}, {"Idempotent-Replayed"}),
        ("POST", "/users/wallets/{id}/deposit", {"json": one}, set()),
        ("POST", "/users/wallets/{id}/transfers", {"json": {"transfers": [sent]}}, set()),
        ("GET", "/users/wallets/{id}/transactions", {"params": {"limit": 1}}, {"Link"}),
        ("POST", "/users/token/create", {"json": credentials}, {"RateLimit", "RateLimit-Policy"}),
        ("POST", "/users/token/revoke", {"json": {"refresh": "none"}}, set()),
        ("GET", "/users/wallets/{id}", {"headers": {"Authorization": "Bearer none"}}, {"WWW-Authenticate"}),
    ]
    for method, path, options, wanted in asked:
        headers = ann.headers | options.pop("headers", {})
        answer = await client.request(method, path.format(id=wallet["id"]), headers=headers, **options)
        described = resolve(document, document["paths"][path][method.lower()]["responses"][str(answer.status_code)])
        found = {name for name in told if name in answer.headers}
        assert found == {"X-Request-ID"} | wanted, f"{method} {path}: {answer.text}"
        assert found <= described["headers"].keys(), f"{method} {path}"


async def test_amounts_and_instants_are_told_as_such(document: Document) -> None:
    told = document["components"]["schemas"]["TransactionView"]["properties"]
    for name in ("amount", "received_amount", "balance_after"):
        assert (told[name]["type"], told[name]["format"]) == ("string", "decimal")
    assert told["created_at"]["format"] == "date-time"
    parameters = document["paths"]["/users/wallets/{id}/transactions"]["get"]["parameters"]
    instants = {each["name"] for each in parameters if each["schema"].get("format") == "date-time"}
    assert instants == {"since", "until"}


async def test_it_says_which_routes_want_a_token(document: Document, client: httpx.AsyncClient) -> None:
    for method, path, operation in operations(document):
        wanted = operation.get("security", document["security"])
        answer = await client.request(method, path.format(id=uuid4() if "sessions" in path else 1), json={})
        assert (answer.status_code == 401) == (wanted not in ([], [{}])), f"{method} {path} says {wanted}"
        assert ("401" in operation["responses"]) or answer.status_code != 401, f"{method} {path}"


async def test_each_money_route_takes_an_idempotency_key_and_no_other_does(document: Document) -> None:
    takers = {
        path.rsplit("/", 1)[1]
        for _, path, operation in operations(document)
        for parameter in operation.get("parameters", [])
        if (parameter["name"], parameter["in"], parameter["required"]) == ("Idempotency-Key", "header", False)
    }
    assert takers == {"deposit", "withdraw", "transfer", "transfers"}


async def test_the_answers_have_the_described_members(document: Document, client: httpx.AsyncClient) -> None:
    alice = await register(client)
    wallet = await alice.open_wallet(holding="5")
    for method, path, operation in operations(document):
        if method != "GET" and path.rsplit("/", 1)[1] not in ("deposit", "withdraw"):
            continue
        answer = await alice.request(
            method, path.format(id=wallet.id), json={"amount": "1"} if method == "POST" else None
        )
        schema = resolve(
            document, operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
        )
        body = answer.json()
        if path == "/users/sessions":
            assert body == []  # her token was not had by signing in
            continue
        if schema["type"] == "array":
            schema, body = resolve(document, schema["items"]), body[0]
        assert schema["type"] == "object"
        if "properties" in schema:
            assert set(schema["required"]) == body.keys() == schema["properties"].keys(), path


async def test_what_is_not_for_the_public_is_left_out(document: Document, client: httpx.AsyncClient) -> None:
    for path in document["paths"]:
        assert path.startswith(("/users", "/health")), path
    assert (await client.get("/dev/mailbox/")).status_code == 200
    assert (await client.get("/api/v1/health/live")).status_code == 200


async def test_the_pages_for_people_answer(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    for path in ["/docs", "/docs/", "/docs/swagger", "/docs/redoc", "/docs/scalar"]:
        with subtests.test(msg=f"{path!r:.60}"):
            page = await client.get(path)
            assert page.status_code == 200
            assert page.headers["Content-Type"].startswith("text/html")
            assert "Wallet API" in page.text
