"""The document's examples, sent as they stand: only what nobody can know beforehand is put in their place."""

from typing import Any

import httpx

from db.tables import Wallet
from tests.helpers.users import CodeOf, Json, register


def examples(document: Json) -> dict[tuple[str, str], Json]:
    """By method and path, a JSON body made of the fields' examples."""
    found = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = content["application/json"]["schema"]
                if "$ref" in schema:
                    schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
                fields: dict[str, Any] = schema["properties"]
                given = {field: told.get("examples") for field, told in fields.items()}
                found[method, path] = {field: values[0] for field, values in given.items() if values}
    return found


async def test_every_example_of_a_body_does_what_the_document_says(client: httpx.AsyncClient, code_of: CodeOf) -> None:
    document = (await client.get("/docs/openapi.json")).json()
    bodies = examples(document)
    headers: dict[str, str] = {}
    ids: dict[str, Any] = {}

    async def send(method: str, path: str, **unknown: Any) -> Json:
        body = bodies.pop((method, path)) | unknown
        answer = await client.request(method, path.format(**ids), json=body, headers=headers)
        promised = [int(code) for code in document["paths"][path][method]["responses"] if code.startswith("2")]
        assert answer.status_code == promised[0], (method, path, body, answer.text)
        told: Json = answer.json()
        return told

    session = await send("post", "/users/create")
    await send("post", "/users/verify", session_id=session["session_id"], code=await code_of(session))
    tokens = await send("post", "/users/token/create")
    tokens = await send("post", "/users/token/refresh", refresh=tokens["refresh"])
    headers["Authorization"] = f"Bearer {tokens['access']}"
    assert (await send("patch", "/users/update"))["first_name"] == "Ann"
    ids["id"] = (await send("post", "/users/wallets/create"))["id"]
    assert (await send("patch", "/users/wallets/{id}/update"))["name"] == "Groceries"
    for _ in range(2):
        answer = await client.post(f"/users/wallets/{ids['id']}/deposit/", json={"amount": "200.00"}, headers=headers)
        assert answer.status_code == 201
    await send("post", "/users/wallets/{id}/deposit")
    await send("post", "/users/wallets/{id}/withdraw")
    other = await (await register(client)).open_wallet()
    await Wallet.update({Wallet.wallet_number: bodies["post", "/users/wallets/{id}/transfer"]["wallet_number"]}).where(
        Wallet.id == other.id
    )
    await send("post", "/users/wallets/{id}/transfer")
    assert await other.balance() == 200
    await client.post(f"/users/wallets/{ids['id']}/deposit/", json={"amount": "200.00"}, headers=headers)
    assert len((await send("post", "/users/wallets/{id}/transfers"))["transfers"]) == 2
    session = await send("post", "/users/password/update")
    await send("patch", "/users/password/verify", session_id=session["session_id"], code=await code_of(session))
    session = await send("post", "/users/password/reset")
    await send("post", "/users/password/reset/verify", session_id=session["session_id"], code=await code_of(session))
    again = await client.post("/users/token/revoke", json={"refresh": tokens["refresh"]})
    assert (again.status_code, bodies.pop(("post", "/users/token/revoke"))) == (204, {})
    assert bodies == {}, "an example that nobody has tried"
