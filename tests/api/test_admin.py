"""Staff: what they see, what they can't change, and what operators may ask of the bank."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar
from piccolo_api.session_auth.tables import SessionsBase

from app.staff import admin_tables
from app.staff.admin_tables import TABLES
from app.staff.logins import StaffError, change_login, create_login
from db import tables
from db.tables import IdempotencyKey, Message, StaffAction, User
from tests.helpers.staff import STAFF_PASSWORD, Staff, sign_in, signed_in
from tests.helpers.users import Person, register

NAMES = [config.table_class._meta.tablename for config in TABLES]


@pytest.fixture
async def operator(app: Litestar) -> AsyncIterator[Staff]:
    async with signed_in(app, "ayan", operator=True) as staff:
        yield staff


@pytest.fixture
async def viewer(app: Litestar) -> AsyncIterator[Staff]:
    async with signed_in(app, "vera", operator=False) as staff:
        yield staff


@pytest.fixture
async def alice(client: httpx.AsyncClient) -> Person:
    return await register(client)


def test_what_staff_see_is_what_the_tables_have_and_nothing_that_is_secret() -> None:
    for config in TABLES:
        shown = config.table_class
        real = getattr(tables, shown.__name__)
        columns = {column._meta.name: column for column in real._meta.columns}
        assert shown._meta.tablename == real._meta.tablename
        for column in shown._meta.columns:
            there = columns[column._meta.name]
            assert not there._meta.secret
            assert column._meta.null == there._meta.null, (shown, column)
            assert getattr(column, "digits", None) == getattr(there, "digits", None)
            assert getattr(column, "length", None) == getattr(there, "length", None), (shown, column)
    mirrored = [getattr(tables, config.table_class.__name__) for config in TABLES]
    hidden = {
        f"{table._meta.tablename}.{column._meta.name}"
        for table in mirrored
        for column in table._meta.columns
        if column._meta.name not in {each._meta.name for each in getattr(admin_tables, table.__name__)._meta.columns}
    }
    of_no_use = {"wallet.last_entry_at", "wallet.dates_went_back"}
    assert hidden == {"user.password_hash", "idempotency_key.fingerprint", "message.sealed"} | of_no_use


async def test_nothing_can_be_changed_over_the_admins_own_api_not_even_by_an_operator(
    app: Litestar, operator: Staff, alice: Person
) -> None:
    wallet = await alice.open_wallet(holding="100.00")
    await wallet.send("1.00", await (await register(alice.client)).open_wallet(), key="k")
    await operator.form("freeze-a-wallet", wallet_number=wallet.number, reason="to fill the log")

    async def everything() -> list[Any]:
        return [await getattr(tables, config.table_class.__name__).select() for config in TABLES]

    before = await everything()
    document = (await operator.get("openapi.json")).json()
    ids = {
        config.table_class._meta.tablename: (
            await operator.get(f"tables/{config.table_class._meta.tablename}/")
        ).json()["rows"]
        for config in TABLES
    }
    bodies = [{"amount": "999.00"}, {"is_active": False, "frozen_at": None}, {"id": 1}, {}]
    tried = 0
    for path in document["paths"]:
        name = path.split("/")[2] if path.startswith("/tables/") else ""
        for row in (ids.get(name) or [{}])[:2]:
            target = path.strip("/").replace("{row_id}", str(row.get("id", 1))) + "/"
            if target.startswith("forms"):
                continue
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                for body in bodies:
                    answer = await operator.ask(method, target, body)
                    assert answer.status_code in {404, 405, 422}, (method, target, answer.status_code, answer.text)
                    tried += 1
    assert tried > 300
    assert await everything() == before
    assert {name for name in NAMES if ids[name]} >= {"user", "wallet", "transaction", "entry", "staff_action"}


async def test_no_answer_has_a_password_a_token_or_a_digest_whatever_is_asked(
    app: Litestar, operator: Staff, alice: Person
) -> None:
    await User.update({User.password_hash: "$argon2id$topsecret"}).where(User.id == alice.user_id)
    wallet = await alice.open_wallet()
    await wallet.deposit("5.00", key="a-key")
    fingerprint = (await IdempotencyKey.select(IdempotencyKey.fingerprint).first() or {})["fingerprint"]
    sealed = b"sealed-code-bytes"
    await Message.insert(
        Message(event="e", user=alice.user_id, template="code", params="{}", sealed=sealed, recipient="a@example.com")
    )
    session = (await SessionsBase.select().first() or {})["token"]
    secrets = ["topsecret", "pbkdf2", session, sealed.decode(), sealed.hex(), fingerprint.hex(), str(fingerprint)[2:-1]]
    columns = ["password_hash", "password", "fingerprint", "sealed", "token", "token_hash", "user.password_hash"]
    tried = 0
    for name in [*NAMES, "piccolo_user", "sessions", "refresh_token"]:
        asked: list[dict[str, str]] = [{}, {"__readable": "true"}, {"__page_size": "1000"}]
        for column in columns:
            asked += [{"__visible_fields": f"id,{column}"}, {"__order": column}, {column: "$argon2id$topsecret"}]
            asked += [{column: "%", f"{column}__operator": "gte"}, {column: "$", f"{column}__match": "starts"}]
        for query in asked:
            for path in ("", "count/", "ids/", "schema/", "references/", "new/"):
                answer = await operator.get(f"tables/{name}/{path}", params=query)
                text = answer.text
                assert not [secret for secret in secrets if secret in text], (name, path, query)
                if path in ("", "count/") and any(key.split("__")[0] in columns for key in query):
                    assert answer.status_code >= 400, f"{name}/{path} lets {query} decide what is found"
                tried += 1
    assert tried > 1000


async def test_forms_are_orders_of_the_bank_with_a_reason_and_a_name(
    app: Litestar, operator: Staff, alice: Person
) -> None:
    wallet = await alice.open_wallet(holding="100.00")
    other = await (await register(alice.client)).open_wallet()
    adjust = {"wallet_number": wallet.number, "amount": "-12.50", "reference": "T-1", "reason": "counted wrong"}
    assert (await operator.form("adjust-a-balance", **adjust))[0] == 200
    again = await operator.form("adjust-a-balance", **adjust)
    assert (again[0], again[1][:18]) == (200, "It was done before")
    reused = await operator.form("adjust-a-balance", **{**adjust, "amount": "12.50"})
    assert reused == (422, "This reference was used for another wallet or amount. Choose a new one.")
    assert str(await wallet.balance()) == "87.50"
    refused = await operator.form("adjust-a-balance", **{**adjust, "amount": "-87.51", "reference": "T-2"})
    assert refused == (422, "The wallet holds too little. The wallet holds 87.50 KZT. Debit that or less.")

    freeze = {"wallet_number": wallet.number, "reason": "stolen phone"}
    assert (await operator.form("freeze-a-wallet", **freeze))[0] == 200
    for answer in (await wallet.deposit("1"), await wallet.withdraw("1"), await wallet.send("1", other)):
        assert (answer.status_code, answer.json()["code"]) == (400, "wallet_frozen")
    assert await operator.form("freeze-a-wallet", **freeze) == (200, "It was frozen already.")
    assert (await operator.form("unfreeze-a-wallet", **freeze))[0] == 200

    sent = (await wallet.send("80.00", other)).json()
    assert (await other.withdraw("0.01")).status_code == 201
    reverse = {"transaction_id": sent["id"], "reason": "sent by mistake"}
    status, sentence = await operator.form("reverse-a-transaction", **reverse)
    assert status == 422
    assert "The receiver no longer has the money" in sentence
    assert (await other.deposit("0.01")).status_code == 201
    assert (await operator.form("reverse-a-transaction", **reverse))[0] == 200
    assert (await operator.form("reverse-a-transaction", **reverse))[1].endswith("It has been reversed already.")
    assert [str(await each.balance()) for each in (wallet, other)] == ["87.50", "0.00"]
    assert {entry["operation_type"] for entry in await wallet.history()} == {"DEPOSIT", "WITHDRAW", "TRANSFER"}
    logged = [(row["action"], row["staff_name"], row["reason"]) for row in await StaffAction.select()]
    assert sorted(logged) == [
        ("ADJUST", "ayan", "counted wrong"),
        ("FREEZE", "ayan", "stolen phone"),
        ("REVERSE", "ayan", "sent by mistake"),
        ("UNFREEZE", "ayan", "stolen phone"),
    ]


async def test_the_wallet_of_an_erased_person_stays_frozen(operator: Staff, alice: Person) -> None:
    wallet = await alice.open_wallet()
    form = {"wallet_number": wallet.number, "reason": "a mistake"}
    assert (await operator.form("freeze-a-wallet", **form))[0] == 200
    await User.update({User.erased_at: datetime.now(UTC)}).where(User.id == alice.user_id)
    status, sentence = await operator.form("unfreeze-a-wallet", **form)
    assert (status, sentence[:26]) == (422, "Its owner has been erased:")
    row = (
        await tables.Wallet.select(tables.Wallet.frozen_at).where(tables.Wallet.wallet_number == wallet.number).first()
    )
    assert row
    assert row["frozen_at"]


BAD_FORMS: list[tuple[str, dict[str, Any]]] = [
    *[("adjust-a-balance", {"amount": amount}) for amount in ("", "0", "1.001", "1e3", "NaN", "--5", "- 5", "10" * 9)],
    *[("adjust-a-balance", {"reason": reason}) for reason in ("", "  ", "ab", "x" * 501, "a\x00b", "a\nb")],
    *[("adjust-a-balance", {"reference": reference}) for reference in ("", " ", "x" * 101)],
    *[("adjust-a-balance", {"wallet_number": number}) for number in ("", "0000000001", "\x00", "9" * 64, "x" * 65)],
    *[("reverse-a-transaction", {"transaction_id": id}) for id in ("", "1", "not-a-uuid", str(uuid4()))],
    *[("freeze-a-wallet", {"wallet_number": number}) for number in ("0000000010", "\uff11" * 10)],
]


async def test_a_form_that_is_filled_in_badly_is_refused_with_a_sentence_and_moves_nothing(
    app: Litestar, operator: Staff, alice: Person
) -> None:
    wallet = await alice.open_wallet(holding="100.00")
    good = {"wallet_number": wallet.number, "amount": "1.00", "reference": "T-1", "reason": "a reason"}
    good["transaction_id"] = (await wallet.history())[0]["id"]
    for name, bad in BAD_FORMS:
        status, sentence = await operator.form(name, **{**good, **bad})
        assert status == 422, (name, bad)
        assert len(sentence) > 10
    assert await wallet.balance() == 100
    assert await StaffAction.count() == 0


async def test_viewers_look_but_do_not_act_and_strangers_do_neither(
    app: Litestar, viewer: Staff, alice: Person
) -> None:
    wallet = await alice.open_wallet(holding="100.00")
    assert (await viewer.get("tables/wallet/")).json()["rows"][0]["wallet_number"] == wallet.number
    fields = {"wallet_number": wallet.number, "amount": "1.00", "reference": "T", "reason": "a reason"}
    fields |= {"transaction_id": (await wallet.history())[0]["id"], "person": str(alice.user_id)}
    forms = [form["slug"] for form in (await viewer.get("forms/")).json()]
    assert len(forms) == 6
    for form in forms:
        assert await viewer.form(form, **fields) == (422, "You may look, but not act. Ask an operator.")
    answer = await viewer.client.post("/admin/api/forms/freeze-a-wallet/", json=fields)
    assert answer.status_code == 403, "a request without its CSRF token, as another site would send it"
    viewer.client.cookies.delete("id")
    for path in ("tables/wallet/", "forms/", "user/", "openapi.json", "tables/user/ids/"):
        assert (await viewer.get(path)).status_code == 401
    token = {"Authorization": f"Bearer {alice.token}"}
    assert (await alice.client.get("/admin/api/tables/wallet/", headers=token)).status_code == 401
    assert await StaffAction.count() == 0


async def test_a_disabled_login_and_one_with_a_new_password_are_out_at_once(app: Litestar, viewer: Staff) -> None:
    assert (await viewer.get("user/")).status_code == 200
    await change_login("vera", password="another good passphrase")
    assert (await viewer.get("user/")).status_code == 401
    answer, staff = await sign_in(app, "vera", "another good passphrase")
    assert (answer.status_code, (await staff.get("user/")).status_code) == (200, 200)
    await change_login("vera", active=False)
    assert (await staff.get("user/")).status_code == 401
    _, again = await sign_in(app, "vera", "another good passphrase")
    assert (await again.get("user/")).status_code == 401


async def test_guessing_a_password_is_slowed_for_a_name_whoever_guesses_and_then_refused_even_if_right(
    app: Litestar, viewer: Staff
) -> None:
    answers = await asyncio.gather(*(sign_in(app, "vera", f"guess number {number}") for number in range(8)))
    assert {answer.status_code for answer, _ in answers} == {401}
    for number in range(20):
        answer, _ = await sign_in(app, "vera", f"guess number {number}")
    right, _ = await sign_in(app, "vera")
    assert (answer.status_code, right.status_code) == (429, 429)
    assert int(right.headers["Retry-After"]) > 0
    assert (await viewer.get("user/")).status_code == 200, "who is in stays in"
    nobody, _ = await sign_in(app, "nobody at all")
    assert nobody.status_code == 401


async def test_a_huge_body_is_refused_before_anybody_is_known(app: Litestar, client: httpx.AsyncClient) -> None:
    await client.get("/admin/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"], "Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/admin/public/login/", content=b"a=" + b"x" * 10_000_000, headers=headers)
    assert answer.status_code == 413


async def test_a_weak_login_is_not_made(subtests: pytest.Subtests, database: str) -> None:
    for username, password, sentence in [
        ("ayan", "short", "12 to 128 characters"),
        ("ayan", "x" * 129, "12 to 128 characters"),
        ("ayan", "my name is Ayan!", "must not contain the username"),
        ("ayan", "aaaaaaaaaaaaaaaa", "too easy to guess"),
        ("ayan", "Password123456", "too easy to guess"),
        ("ayan", "123456789012", "too easy to guess"),
        ("ayan", "correct horse \udcff\udcfe", "UTF-8"),
        ("a", STAFF_PASSWORD, "3 to 100 printable"),
        ("ay\x00an", STAFF_PASSWORD, "3 to 100 printable"),
        ("ayan\u200b", STAFF_PASSWORD, "3 to 100 printable characters. .* found U.200B at position 5"),
        ("\u0301\u0301\u0301", STAFF_PASSWORD, "3 to 100 printable"),
    ]:
        with subtests.test(msg=f"{username!r:.60} {password!r:.60}"), pytest.raises(StaffError, match=sentence):
            await create_login(username=username, email="a@example.com", password=password, operator=True)


async def test_a_taken_name_or_email_is_told_in_a_sentence(database: str) -> None:
    await create_login(username="ayan", email="ayan@example.com", password=STAFF_PASSWORD, operator=True)
    for username, email in (("ayan", "other@example.com"), ("other", "ayan@example.com")):
        with pytest.raises(StaffError, match="already"):
            await create_login(username=username, email=email, password=STAFF_PASSWORD, operator=False)
    with pytest.raises(StaffError, match="no login named"):
        await change_login("nobody", active=True)
