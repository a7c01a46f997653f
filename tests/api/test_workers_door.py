"""The worker dashboard: who gets in, who may act, and what it makes of nonsense and of servers that are gone."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from msgspec.structs import replace
from piccolo_api.session_auth.tables import SessionsBase
from saq.queue.redis import RedisQueue

from app.settings import Settings
from app.staff.logins import change_login, create_login
from db.engine import engine
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers
from tasks.queue import QUEUE_NAME, open_queue
from tests.helpers.banks import NOBODY_LISTENS
from tests.helpers.dashboard import HERE, ORDERS, PAGES, QUESTIONS, Dashboard, everything
from tests.helpers.staff import STAFF_PASSWORD, signed_in
from tests.helpers.users import register


@pytest.fixture
async def operator(app: Litestar) -> AsyncIterator[Dashboard]:
    async with signed_in(app, "ayan", operator=True) as staff:
        yield Dashboard(staff)


@pytest.fixture
async def viewer(app: Litestar) -> AsyncIterator[Dashboard]:
    async with signed_in(app, "vera", operator=False) as staff:
        yield Dashboard(staff)


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[RedisQueue]:
    queue = open_queue(settings.redis_url)
    yield queue
    await queue.disconnect()


async def test_strangers_are_sent_to_the_login_and_told_nothing(client: httpx.AsyncClient, settings: Settings) -> None:
    before = await everything(settings.redis_url)
    for path in PAGES:
        answer = await client.get(f"/workers/{path}")
        assert (answer.status_code, answer.headers["Location"], answer.text) == (303, "/admin/", ""), path
    for path in QUESTIONS:
        assert (await client.get(f"/workers/{path}")).status_code == 401, path
    for path in ORDERS:
        assert (await client.post(f"/workers/{path}", headers=HERE)).status_code == 401, path
    answer = await client.get("/workers")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/workers/")
    alice = await register(client)
    assert (await alice.request("GET", "/workers/api/queues")).status_code == 401
    assert await everything(settings.redis_url) == before


async def test_viewers_look_but_do_not_act(viewer: Dashboard, settings: Settings, queue: RedisQueue) -> None:
    await queue.enqueue("forget_old", key="cron:forget_old", scheduled=2_000_000_000)
    before = await everything(settings.redis_url)
    page = await viewer.get("")
    assert '"readOnly": true' in page.text
    assert [job["key"] for job in await viewer.jobs("scheduled")] == ["cron:forget_old"]
    for path in ORDERS:
        answer = await viewer.post(path)
        assert (answer.status_code, answer.json()) == (403, {"error": "You may look, but not act. Ask an operator."})
    assert await everything(settings.redis_url) == before


async def test_what_another_site_asks_for_in_an_operators_name_is_refused(
    subtests: pytest.Subtests, operator: Dashboard, settings: Settings, queue: RedisQueue
) -> None:
    await queue.enqueue("forget_old", key="cron:forget_old", scheduled=2_000_000_000)
    before = await everything(settings.redis_url)
    for headers in [
        {},
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://wallet.test.evil.test"},
        {**HERE, "Sec-Fetch-Site": "cross-site"},
        {**HERE, "Sec-Fetch-Site": "same-site"},
    ]:
        with subtests.test(msg=f"{headers!r:.60}"):
            for path in ORDERS:
                assert (await operator.post(path, headers=headers)).status_code == 403
            assert await everything(settings.redis_url) == before
    assert (await operator.post(ORDERS[-2], headers={"Sec-Fetch-Site": "same-origin"})).status_code == 200


async def test_a_disabled_login_is_out_at_once_and_so_is_one_that_signed_out(
    operator: Dashboard, viewer: Dashboard
) -> None:
    assert (await operator.get("api/queues")).status_code == 200
    await change_login("ayan", active=False)
    assert ((await operator.get("api/queues")).status_code, (await operator.get("")).status_code) == (401, 303)
    assert (await operator.post("api/cron/enqueue-all")).status_code == 401
    token = viewer.client.cookies["csrftoken"]
    await viewer.client.post("/admin/public/logout/", headers={"X-CSRFToken": token})
    assert (await viewer.get("api/queues")).status_code == 401


async def test_looking_on_does_not_keep_a_session_alive_but_a_click_does(viewer: Dashboard) -> None:
    # Piccolo's column has no time zone.
    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=5)
    await SessionsBase.update({SessionsBase.expiry_date: soon}, force=True)

    async def ends_at() -> datetime:
        row = await SessionsBase.select(SessionsBase.expiry_date).first()
        assert row
        ends: datetime = row["expiry_date"]
        return ends

    for path in QUESTIONS:
        assert (await viewer.get(path)).status_code == 200
    assert await ends_at() == soon
    await viewer.get("cron")
    assert await ends_at() > soon


async def test_what_would_stop_mail_and_fees_is_refused_even_to_operators(
    operator: Dashboard, settings: Settings
) -> None:
    before = await everything(settings.redis_url)
    refused = [
        f"api/queues/{QUEUE_NAME}/pause",
        f"api/queues/{QUEUE_NAME}/resume",
        *[f"api/cron/{QUEUE_NAME}/deliver/{action}" for action in ("disable", "enable", "delete")],
        *[f"api/cron/{action}-all" for action in ("disable", "enable", "delete")],
    ]
    for path in refused:
        answer = await operator.post(path)
        assert (answer.status_code, len(answer.json()["error"]) > 20) == (403, True), path
    answer = await operator.post(f"api/queues/{QUEUE_NAME}/jobs", {"function": "deliver", "kwargs": {"a": 1}})
    assert answer.status_code == 403
    assert await everything(settings.redis_url) == before


async def test_the_page_runs_no_script_but_the_boards_and_stays_in_no_browser(operator: Dashboard) -> None:
    page = await operator.get("")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self' 'sha256-" in policy
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(policy.split("script-src")[1].split(";")[0].split())
    assert page.text.count("<script>") == 1
    assert '"readOnly": false' in page.text
    for path in (*PAGES, *QUESTIONS[:4]):
        headers = (await operator.get(path)).headers
        expected = ("DENY", "nosniff", "no-store")
        assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"], headers["Cache-Control"]) == expected
    assert "no-store" not in (await operator.get("static/app.js")).headers.get("Cache-Control", "")


async def test_no_page_loads_anything_from_elsewhere(operator: Dashboard) -> None:
    page = (await operator.get("")).text
    loaded = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.split(mark)[1:]]
    assert len(loaded) >= 4
    for path in loaded:
        assert path.startswith("/workers/static/"), path
        assert (await operator.client.get(path)).status_code == 200


async def test_nonsense_is_the_askers_mistake_and_never_ours(operator: Dashboard) -> None:
    asked = [
        *[("api/queues/wallet/jobs", {"status": value}) for value in ("", "nope", "\x00", "9" * 50)],
        *[("api/queues/wallet/jobs", {"status": "failed", "offset": v}) for v in ("-1", "x", "9" * 30, "9" * 5_000)],
        *[("api/queues/wallet/jobs", {"status": "queued", "limit": value}) for value in ("-1", "x", "9" * 30)],
        *[(f"api/queues/{name}", {}) for name in ("nope", "%00", "..%2f..")],
        *[(f"api/queues/wallet/jobs/{key}", {}) for key in ("nope", "%00", "%ff", "a%2Fb", "x" * 2_000)],
        *[(path, {}) for path in ("api/nope", "static/../api.py", "static/%2e%2e/api.py", "static/nope")],
    ]
    for path, query in asked:
        assert (await operator.get(path, **query)).status_code < 500, (path, query)
    bodies = [b"{", b"[]", b"null", b"1", b"NaN", b"\xff", b"[" * 50_000, b'{"status": [1]}', b'{"status": "\\ud800"}']
    for path in ORDERS[:-2]:
        for body in bodies:
            answer = await operator.client.post(f"/workers/{path}", content=body, headers=HERE)
            assert answer.status_code < 500, (path, body[:20], answer.text)
    huge = await operator.client.post(f"/workers/{ORDERS[0]}", content=b"x" * 200_000, headers=HERE)
    assert huge.status_code == 413
    for method in ("PUT", "DELETE", "PATCH"):
        answer = await operator.client.request(method, "/workers/api/cron", headers=HERE)
        assert answer.status_code == 405


@pytest.mark.impatient
class TestWithoutRedis:
    """Redis is not there at all."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, redis_url=NOBODY_LISTENS)

    async def test_the_page_comes_and_says_so(self, app: Litestar, client: httpx.AsyncClient) -> None:
        await create_login(username="ayan", email="ayan@example.com", password=STAFF_PASSWORD, operator=True)
        login: Any = await SessionsBase.create_session(user_id=1)
        client.cookies.set("id", login.token)
        assert (await client.get("/workers/")).status_code == 200
        for path in QUESTIONS[:4]:
            answer = await client.get(f"/workers/{path}")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), path
            assert answer.json() == {"error": "Redis does not answer, so nothing can be told. Try again in a moment."}
        answer = await client.post(f"/workers/{ORDERS[0]}", json={"status": "failed"}, headers=HERE)
        assert answer.status_code == 503


class TestWithoutPostgres:
    """PostgreSQL goes away under a running application, and comes back."""

    @pytest.fixture
    def own_servers(self, tmp_path: Path) -> Iterator[Servers]:
        with embedded_servers(tmp_path / "servers", durable=False, redis=False) as running:
            yield running

    @pytest.fixture
    async def database_url(self, own_servers: Servers) -> str:
        assert own_servers.database_url
        await migrate(own_servers.database_url)
        engine().config["dsn"] = own_servers.database_url
        return own_servers.database_url

    async def test_nobody_gets_in_and_everybody_is_told_why(self, operator: Dashboard, own_servers: Servers) -> None:
        (postgres,) = own_servers.running
        postgres.interrupt()
        postgres.stop()
        sentence = "Nothing has happened. Try again in a moment."
        for path, said in (("", sentence), ("api/queues", f'{{"error":"{sentence}","code":"database_unavailable"}}')):
            answer = await operator.get(path)
            assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (503, "1", said)
        assert (await operator.post(ORDERS[0])).status_code == 503
        own_servers.revive()
        assert (await operator.get("api/queues")).status_code == 200
