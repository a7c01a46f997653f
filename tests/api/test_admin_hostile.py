"""What the admin makes of nonsense, of greed, and of those who are not who they should be."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar

from app.staff.admin import CONNECTIONS_MAX
from app.staff.admin_tables import TABLES
from tests.helpers.staff import Staff, sign_in, signed_in
from tests.helpers.users import register

HUGE = "9" * 30
QUERIES: list[dict[str, str]] = [
    *[{"__page": page} for page in ("-1", "0", HUGE, "x")],
    *[{"__page_size": size} for size in ("-1", "1001", HUGE, "x")],
    *[{"__order": order} for order in ("nope", "-nope", "id.x", "password_hash", "", ",")],
    *[{"__visible_fields": fields} for fields in ("nope", "id.x", "", "user.password_hash")],
    *[{"id": id} for id in ("x", "\x00", HUGE, "-1")],
    *[{"amount": amount} for amount in ("x", "NaN", "1e999", HUGE)],
    *[{name: "\x00"} for name in ("email", "key", "name", "reason", "wallet", "source", "params", "created_at")],
    *[{"wallet": HUGE}, {"id__operator": "nope"}, {"nope__operator": "is_null"}, {"password_hash": "x"}],
]
IDS: list[dict[str, str]] = [
    *[{"limit": limit} for limit in ("-1", HUGE, "x")],
    *[{"search": "x", **more} for more in ({"limit": "-1"}, {"offset": "-1"}, {"limit": HUGE})],
    {"search": "\x00"},
]
BODIES = [
    *[b"", b"{", b"[]", b"null", b"1", b"NaN", b'"x"', b"\xff", b"[" * 50_000, b"{" * 50_000],
    *[b'{"username": [1], "password": {}}', b'{"username": "\\ud800", "password": "\\ud800"}'],
    *[b'{"username": "a\\u0000b", "password": "x"}', b'{"wallet_number": "\\ud800", "reason": "\\ud800"}'],
    json.dumps({"username": "vera", "password": "x" * 20_000}).encode(),
]


async def test_nonsense_is_the_askers_mistake_and_never_ours(app: Litestar) -> None:
    async with signed_in(app, "ayan", operator=True) as staff:
        asked: list[tuple[str, dict[str, str]]] = []
        for config in TABLES:
            table = f"tables/{config.table_class._meta.tablename}/"
            asked += [(f"{table}{count}", query) for query in QUERIES for count in ("", "count/")]
            asked += [(f"{table}ids/", query) for query in IDS]
            asked += [(f"{table}{id}/", {}) for id in ("abc", "-1", "%00", HUGE, "' or 1=1--")]
        for path, query in asked:
            answer = await staff.get(path, params=query)
            assert answer.status_code < 500, (path, query, answer.text)
        assert len(asked) > 500
        headers = {"X-CSRFToken": staff.client.cookies["csrftoken"]}
        for path in ("public/login/", "api/forms/freeze-a-wallet/", "api/forms/adjust-a-balance/"):
            for body in BODIES:
                for kind in ("application/json", "application/x-www-form-urlencoded"):
                    answer = await staff.client.post(
                        f"/admin/{path}", content=body, headers={**headers, "Content-Type": kind}
                    )
                    assert 400 <= answer.status_code < 500, (path, body[:40], kind, answer.status_code, answer.text)


async def test_no_parameter_breaks_a_header_or_ends_in_a_fault_of_ours(
    app: Litestar, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["page", "page_size", "order", "visible_fields", "readable", "range_header", "range_header_name", "match"]
    parameters = [*(f"__{name}" for name in names), "name__operator", "name__match", "amount__operator", "limit", "new"]
    async with signed_in(app, "ayan", operator=True) as staff:
        for parameter in parameters:
            for value in ("wallets", "1", "Кошелёк", "\r\nX-Evil: 1", "a\nb", "\0", "\u2028"):
                for query in ([(parameter, value)], [(parameter, value)] * 2, [(f"{parameter}[]", value)]):
                    answer = await staff.get("tables/wallet/", params=[("__range_header", "true"), *query])
                    assert answer.status_code < 500, query
                    assert not {*b"\r\n\0"} & {*b"".join(part for each in answer.headers.raw for part in each)}, query
                    if not value.isprintable():
                        assert (answer.status_code, "found U+" in answer.text) == (400, True), query
        kept = await staff.get(
            "tables/wallet/", params=[("__range_header", "true"), ("__range_header_name", "wallets")]
        )
        assert kept.headers["Content-Range"].startswith("wallets ")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_stranger_gets_what_the_sign_in_page_needs_and_no_more(app: Litestar) -> None:
    async with signed_in(app, "ayan", operator=True) as staff:
        document = (await staff.get("openapi.json")).json()["paths"]
        page = (await staff.client.get("/admin/")).text
        assets = ["/admin/" + part.split('"')[0] for part in page.split('="./')[1:]]
        public = ["/admin/public/meta/", "/admin/public/translations/", "/admin/public/translations/en/"]
        inside = [f"/admin/api{path}" for path in document]
        generated = [
            f"/admin{part}/{page}"
            for part in ("", "/public", "/api")
            for page in ("openapi.json", "docs", "docs/", "redoc", "docs/oauth2-redirect", "docs/index.html")
        ]
        workers = ["/workers/", "/workers/cron", "/workers/api/queues", "/workers/static/", "/workers/static/staff.js"]
        workers += ["/workers/openapi.json", "/workers/docs", "/workers/api/crons", "/health/integrity"]
        transport: Any = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as stranger:
            for path in ("/admin/", *assets, *public):
                assert (await stranger.get(path)).status_code == 200, path
            for path in (*inside, *generated, *workers):
                answer = await stranger.get(path)
                assert answer.status_code in {303, 401, 403, 404, 405}, (path, answer.status_code)
                assert "paths" not in answer.text, path
        assert len(inside) > 50
        for path in ("openapi.json", "public/openapi.json"):  # there is one for staff, and none beside it
            assert (await staff.client.get(f"/admin/{path}")).status_code == 404


async def test_whatever_staff_search_for_most_connections_stay_free_for_money(app: Litestar, database_url: str) -> None:
    alice = await register(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://wallet.test"))  # type: ignore[arg-type]
    wallet = await alice.open_wallet()
    async with signed_in(app, "vera", operator=False) as staff, asyncio.TaskGroup() as tasks:
        outside = await asyncpg.connect(database_url)
        try:
            # What nothing on the road of a payment reads, so that only staff wait.
            async with outside.transaction():
                await outside.execute('LOCK TABLE "staff_action" IN ACCESS EXCLUSIVE MODE')
                searches = [tasks.create_task(staff.get("tables/staff_action/")) for _ in range(20)]
                seen: list[int] = []
                while len(seen) < 20 or not max(seen):
                    assert (await wallet.deposit("1.00")).status_code == 201
                    seen.append(await _waiting(outside))
                assert max(seen) <= CONNECTIONS_MAX
        finally:
            await outside.close()
        answers = await asyncio.gather(*searches)
    # A search that waited for longer than a statement may is told so; all others are answered.
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert answers[-1].status_code == 200
    assert await wallet.balance() == len(seen)


async def test_nothing_that_staff_have_seen_stays_in_the_browser(app: Litestar) -> None:
    async with signed_in(app, "vera", operator=False) as staff:
        for path in ("", "api/tables/user/", "api/user/", "public/meta/", "api/tables/nope/"):
            assert (await staff.client.get(f"/admin/{path}")).headers["Cache-Control"] == "no-store", path
        page = (await staff.client.get("/admin/")).text
        (script,) = [part.split('"')[0] for part in page.split('src="./') if part.startswith("assets/")]
        assert "no-store" not in (await staff.client.get(f"/admin/{script}")).headers.get("Cache-Control", "")
        assert (await _sign_out(staff)).status_code == 200
        token = staff.client.cookies.get("id")
        assert not token
        assert (await staff.get("user/")).status_code == 401


async def test_a_session_that_was_signed_out_can_not_be_used_by_who_kept_its_token(app: Litestar) -> None:
    async with signed_in(app, "vera", operator=False) as staff:
        token = staff.client.cookies["id"]
        await _sign_out(staff)
        staff.client.cookies.set("id", token, domain="wallet.test")
        assert (await staff.get("user/")).status_code == 401
        for made_up in ("", "x", "\u00e9", "x" * 5_000, "' or 1=1--"):
            answer = await staff.get("user/", headers={"Cookie": f"id={made_up}".encode()})
            assert answer.status_code in {400, 401}, made_up


@pytest.mark.parametrize("username", ["ayan", "nobody"])
async def test_the_answer_to_a_wrong_password_does_not_tell_whether_there_is_such_a_login(
    app: Litestar, username: str
) -> None:
    async with signed_in(app, "ayan", operator=True):
        answer, _ = await sign_in(app, username, "not the password")
        said: Any = answer.json()
        assert (answer.status_code, said) == (401, {"detail": "Login failed"})


async def _sign_out(staff: Staff) -> httpx.Response:
    headers = {"X-CSRFToken": staff.client.cookies["csrftoken"]}
    return await staff.client.post("/admin/public/logout/", headers=headers)


async def _waiting(connection: asyncpg.Connection) -> int:
    """How many connections wait for the table that is locked."""
    waiting: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE relation = 'staff_action'::regclass AND NOT granted"
    )
    return waiting
