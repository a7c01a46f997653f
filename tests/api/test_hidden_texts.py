"""Text that people show to others: what hides in it is refused at every door, and nothing is taken out of it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
from litestar import Litestar

from db.tables import StaffAction, Transaction, User, Wallet
from tests.helpers.hidden_texts import BLANK, HIDDEN, HONEST
from tests.helpers.refusals import refusal
from tests.helpers.request_bodies import Document, resolved
from tests.helpers.staff import signed_in
from tests.helpers.users import register

# What nobody reads as it was sent: a secret, or what is parsed. Whoever adds a name here says that it is none.
NOT_SHOWN = {"password", "new_password", "code", "phone_code", "phone_number", "email", "refresh"}
SHOWN = {
    *("POST /users/wallets/create name", "PATCH /users/wallets/{id}/update name", "PATCH /users/update first_name"),
    *("PATCH /users/update last_name", "POST /users/wallets/{id}/transfer wallet_number"),
    *("POST /users/wallets/{id}/transfer reference", "POST /users/wallets/{id}/transfers transfers[0].wallet_number"),
    "POST /users/wallets/{id}/transfers transfers[0].reference",
}
KNOWN = {"amount": "1.00", "wallet_number": "4000000000"}

Put = Callable[[str], Any]


def texts_in(document: Document, schema: Document, place: str = "") -> Iterator[tuple[str, Put]]:
    """Every text of a body: its place, and what makes a body that has a text there."""
    schema = resolved(document, schema)
    for each in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from texts_in(document, each, place)
    kinds = schema.get("type", [])
    if "string" in kinds and not {"enum", "format"} & schema.keys():
        yield place, lambda text: text
    if "array" in kinds:
        for inner, put in texts_in(document, schema["items"], f"{place}[0]"):
            yield inner, lambda text, put=put: [put(text)]  # type: ignore[misc]
    for name, member in schema.get("properties", {}).items():
        if name in NOT_SHOWN:
            continue
        needed = {each: KNOWN[each] for each in schema.get("required", []) if each in KNOWN}
        for inner, put in texts_in(document, member, f"{place}.{name}" if place else name):
            yield inner, lambda text, put=put, name=name, needed=needed: {**needed, name: put(text)}  # type: ignore[misc]


async def doors(client: httpx.AsyncClient) -> dict[str, Put]:
    """Every text of every JSON body, as `POST /path member`."""
    document = (await client.get("/docs/openapi.json")).json()
    found: dict[str, Put] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                for place, put in texts_in(document, content["application/json"]["schema"]):
                    found[f"{method.upper()} {path} {place}"] = put
    return found


async def test_no_body_brings_in_what_hides(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    wallet = await alice.open_wallet(holding="100")
    found = await doors(client)
    assert found.keys() >= SHOWN
    tried = 0
    for door, put in found.items():
        method, path, place = door.split(" ")
        blank = BLANK if place == "name" else []
        for text in (*HIDDEN[:: 1 if place == "reference" else 2], *blank):
            answer = await alice.request(method, path.format(id=wallet.id), json=put(text))
            errors = refusal(answer, 400, "validation_failed")["errors"]
            assert [error["field"] for error in errors] == [place], (door, ascii(text))
            tried += 1
    assert tried > 1000
    assert await Transaction.count() == 1  # the deposit
    assert await wallet.balance() == 100


async def test_a_form_brings_in_no_more_than_json(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    for name in ("first_name", "last_name"):
        for text in HIDDEN[::3]:
            answer = await alice.request("PATCH", "/users/update/", files={name: (None, text.encode())})
            errors = refusal(answer, 400, "validation_failed")["errors"]
            assert [error["field"] for error in errors] == [name], ascii(text)
        assert await User.exists().where((User.first_name == "") & (User.last_name == ""))


async def test_nothing_is_taken_out_of_an_honest_text(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    sender, receiver = await alice.open_wallet(holding="100"), await (await register(client)).open_wallet()
    for text in HONEST:
        assert (await sender.send("0.01", receiver, reference=text)).json()["reference"] == text
        many = (await sender.send_all([(receiver, "0.01", text)])).json()
        assert many["transfers"][0]["transaction"]["reference"] == text
        names = {"first_name": text, "last_name": text}
        as_form = {name: (None, text.encode()) for name in names}
        for options in ({"json": names}, {"files": as_form}):
            answer = (await alice.request("PATCH", "/users/update/", **options)).json()
            assert (answer["first_name"], answer["last_name"]) == (text, text)
        renamed = await alice.request("PATCH", f"/users/wallets/{sender.id}/update/", json={"name": text})
        assert renamed.json()["name"] == text
    assert {row["reference"] for row in await receiver.history(limit=200)} == set(HONEST)


async def test_a_key_is_never_used_up_by_what_was_refused(client: httpx.AsyncClient) -> None:
    sender, receiver = (
        await (await register(client)).open_wallet(holding="100"),
        await (await register(client)).open_wallet(),
    )
    refusal(await sender.send("1", receiver, key="k", reference="rent\u200b"), 400, "validation_failed")
    assert (await sender.send("1", receiver, key="k", reference="rent")).status_code == 201
    refusal(await sender.send("1", receiver, key="k", reference="rent\u200b"), 400, "validation_failed")
    bulk = [(receiver, "1", "a"), (receiver, "1", "b\u202e"), (receiver, "1", "\u2066c")]
    errors = refusal(await sender.send_all(bulk, key="bulk"), 400, "validation_failed")["errors"]
    assert [error["field"] for error in errors] == ["transfers[1].reference", "transfers[2].reference"]
    assert await sender.balance() == 99


async def test_no_form_of_staffs_brings_in_what_hides_nor_looks_for_it(
    app: Litestar, client: httpx.AsyncClient
) -> None:
    wallet = await (await register(client)).open_wallet()
    async with signed_in(app, "ayan", operator=True) as staff:
        tried = 0
        for form in (await staff.get("forms/")).json():
            schema = (await staff.get(f"forms/{form['slug']}/schema/")).json()["properties"]
            right = {
                "wallet_number": wallet.number,
                "amount": "1.00",
                "reference": "T-1",
                "reason": "a good reason",
                "person": "ann@example.com",
                "transaction_id": "3f1c1f0e-5a0b-4c57-9a56-5d1d3a4d7c11",
            }
            assert schema.keys() <= right.keys()
            for name in schema:
                for text in (*HIDDEN[::17], *BLANK[::3]):
                    body = {field: text if field == name else right[field] for field in schema}
                    answer = await staff.ask("POST", f"forms/{form['slug']}/", body)
                    assert answer.status_code == 422, (form, name, ascii(text))
                    assert [error["loc"] for error in answer.json()["detail"]] == [[name]], ascii(text)
                    tried += 1
        assert tried > 200
        assert not await StaffAction.exists()
        assert await Wallet.exists().where((Wallet.id == wallet.id) & Wallet.frozen_at.is_null())
        for place in ("/admin/api/tables/wallet/", "/admin/api/tables/wallet/ids/", "/workers/api/queues"):
            for text in HIDDEN[::31]:
                for query in ({"name": text}, {"search": text}, {text: "x"}):
                    answer = await staff.client.get(place, params=query)
                    assert (answer.status_code, answer.text[:21]) == (400, "Expected text without"), (
                        place,
                        ascii(text),
                    )
        for text in HONEST[::4]:
            assert (await staff.get("tables/wallet/", params={"name": text})).status_code == 200
