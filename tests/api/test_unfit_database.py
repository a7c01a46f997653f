"""A database that answers and can't serve: everybody is told so, readiness and the alert as well, and it passes."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar
from msgspec.structs import fields, replace

from app.limits.requests import RateLimits
from app.settings import Settings
from app.telemetry import metrics
from db.engine import Pool, engine
from db.servers.embedded import Servers, embedded_servers
from tests.helpers.refusals import refusal
from tests.helpers.staff import Staff, sign_in, signed_in
from tests.helpers.unfit import WAYS, Till, Unfit, open_till
from tests.helpers.users import PASSWORD, CodeOf, Join, Json, Member, OpenWallet
from tests.helpers.waiting import until

# Without them nothing of the database is asked.
ELSEWHERE = {"/health/live", "/health/ready", "/media/{name}"}


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[Servers]:
    with embedded_servers(tmp_path / "servers", durable=False, redis=False) as running:
        yield running


@pytest.fixture
async def till(own_servers: Servers) -> Till:
    return await open_till(own_servers)


@pytest.fixture
async def database_url(till: Till) -> AsyncIterator[str]:
    before = engine().config["dsn"]
    engine().config["dsn"] = till.url
    yield till.url
    engine().config["dsn"] = before


@pytest.fixture
def settings(settings: Settings) -> Settings:
    unlimited = RateLimits(**{field.name: 0 for field in fields(RateLimits)})
    return replace(settings, limits=unlimited, pool=Pool(max_size=4))


@pytest.fixture
async def staff(app: Litestar) -> AsyncIterator[Staff]:
    async with signed_in(app, "ayan", operator=True) as staff:
        yield staff


async def prepared(client: httpx.AsyncClient, code_of: CodeOf, ann: Member, number: int) -> list[tuple[str, str, Json]]:
    """What finishes with a code, and was begun while the database served; and a session for her to end."""
    await client.post("/users/token/create/", json={"phone_number": ann.user["phone_number"], "password": PASSWORD})
    new = {"email": f"new{number}@example.com", "phone_number": f"+7702{number:07}", "password": PASSWORD}
    joins = (await client.post("/users/create/", json=new)).json()
    change = {"password": PASSWORD, "new_password": "another good password"}
    changes = (await ann.request("POST", "/users/password/update/", json=change)).json()
    resets = (await client.post("/users/password/reset/", json={"email": ann.user["email"]})).json()

    async def with_code(session: Json) -> Json:
        return {"session_id": session["session_id"], "code": await code_of(session)}

    return [
        ("POST", "/users/verify/", await with_code(joins)),
        ("PATCH", "/users/password/verify/", await with_code(changes)),
        ("POST", "/users/password/reset/verify/", await with_code(resets) | {"new_password": "yet another password"}),
    ]


def writing(ann: Member, wallet: OpenWallet, other: OpenWallet, number: int) -> list[tuple[str, str, Json | None]]:
    mine = f"/users/wallets/{wallet.id}"
    new = {"email": f"late{number}@example.com", "phone_number": f"+7705{number:07}", "password": PASSWORD}
    item = {"wallet_number": other.number, "amount": "1"}
    return [
        ("POST", "/users/create/", new),
        ("POST", "/users/token/create/", {"phone_number": ann.user["phone_number"], "password": PASSWORD}),
        ("POST", "/users/token/refresh/", {"refresh": ann.tokens["refresh"]}),
        ("POST", "/users/token/revoke/", {"refresh": ann.tokens["refresh"]}),
        ("PATCH", "/users/update/", {"first_name": "Ann"}),
        ("DELETE", "/users/sessions/", None),
        ("POST", "/users/password/reset/", {"email": ann.user["email"]}),
        (
            "POST",
            "/users/password/update/",
            {"password": PASSWORD, "new_password": "another good password"},
        ),
        ("POST", "/users/wallets/create/", {"amount_currency": "EUR"}),
        ("PATCH", f"{mine}/update/", {"name": "Other"}),
        ("POST", f"{mine}/deposit/", {"amount": "1"}),
        ("POST", f"{mine}/withdraw/", {"amount": "1"}),
        ("POST", f"{mine}/transfer/", item),
        ("POST", f"{mine}/transfers/", {"transfers": [item, item]}),
    ]


def reading(wallet: OpenWallet) -> list[str]:
    mine = f"/users/wallets/{wallet.id}/"
    return ["/users/", "/users/sessions/", "/users/wallets/", mine, f"{mine}transactions/"]


async def test_every_route_says_so_and_so_do_readiness_and_the_alert_and_it_passes(
    app: Litestar,
    client: httpx.AsyncClient,
    till: Till,
    join: Join,
    code_of: CodeOf,
    staff: Staff,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "FRESH_SECONDS", 0)
    ann = await join(email="ann@example.com", phone_number="+77011234567")
    ben = await join(email="ben@example.com", phone_number="+77017654321")
    wallet, other = await ann.open_wallet(holding="1000"), await ben.open_wallet()
    for number, way in enumerate(WAYS):
        before = await wallet.balance()
        begun = await prepared(client, code_of, ann, number)
        caplog.clear()
        async with till.unfit(way):
            if not way.reads or way.name == "read-only":  # it needs no payment to be refused
                await readiness_says_so(client, way)
            writes = [*begun, *writing(ann, wallet, other, number)]
            for method, path, body in writes:
                answer = await ann.request(method, path, json=body)
                assert (answer.status_code, way.name, method, path) == (503, way.name, method, path), answer.text
                refusal(answer, 503, "database_unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
            for each in await asyncio.gather(*(wallet.deposit("1") for _ in range(20))):
                refusal(each, 503, "database_unavailable")
            for path in reading(wallet):
                answer = await ann.request("GET", path)
                assert (answer.status_code, way.name, path) == (200 if way.reads else 503, way.name, path)
            await the_staff_are_told(app, staff, wallet, way)
            await readiness_says_so(client, way)
        # asyncpg's own pool is told to be quiet by `configure_logs`.
        said = [each for each in caplog.records if each.levelno >= logging.WARNING and each.name != "asyncpg.pool"]
        assert [record.getMessage() for record in said if record.exc_info] == [], way.name
        often = Counter((record.name, record.msg) for record in said)
        assert max(often.values(), default=0) <= 1, (way.name, often)
        await until(lambda: served(wallet))
        assert await wallet.balance() >= before + 1, way.name
        assert all(each.status_code == 201 for each in await asyncio.gather(*(wallet.deposit("1") for _ in range(20))))
        assert await readiness_of(client) == ("ok", 1.0), way.name
    covered = {path.replace(str(wallet.id), "{id}") for _, path, _ in writes} | set(reading(wallet))
    told = {path for path in app.openapi_schema.paths or {} if path not in ELSEWHERE}
    shown = {path.replace(str(wallet.id), "{id}").rstrip("/") for path in covered}
    assert {path.rstrip("/") for path in told} - shown <= {"/users/sessions/{id}"}


async def served(wallet: OpenWallet) -> bool:
    return (await wallet.deposit("1")).status_code == 201


async def the_staff_are_told(app: Litestar, staff: Staff, wallet: OpenWallet, way: Unfit) -> None:
    freeze = {"wallet_number": wallet.number, "reason": "a reason"}
    block = {"person": "ben@example.com", "reason": "a reason"}
    for form, fields_ in (
        ("freeze-a-wallet", freeze),
        ("adjust-a-balance", freeze | {"amount": "1", "reference": way.name}),
        ("block-a-person", block),
    ):
        answer = await staff.ask("POST", f"forms/{form}/", fields_)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), (way.name, form)
        assert int(answer.headers["Retry-After"]) >= 1
    answer, _ = await sign_in(app, "ayan")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), way.name
    may_look = (200, 503) if way.reads else (503,)
    for path in ("/admin/api/tables/wallet/", "/admin/api/forms/", "/workers/", "/workers/api/queues"):
        assert (await staff.client.get(path)).status_code in may_look, (way.name, path)
    assert (await staff.client.get("/health/integrity")).status_code in may_look, way.name


async def readiness_says_so(client: httpx.AsyncClient, way: Unfit) -> None:
    answer = await client.get("/health/ready")
    database = answer.json()["checks"]["database"]
    if way.says:
        assert (answer.status_code, database["status"]) == (503, "down"), way.name
        assert way.says in database["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert await readiness_of(client) == ("down", 0.0), way.name
    else:
        assert answer.status_code == 200
    assert (await client.get("/health/live")).status_code == 200


async def readiness_of(client: httpx.AsyncClient) -> tuple[str, float]:
    """What is said of the database by readiness, and by the metric that the alert WalletDatabaseDown asks."""
    status = (await client.get("/health/ready")).json()["checks"]["database"]["status"]
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    (line,) = (line for line in answer.text.splitlines() if line.startswith('wallet_part_up{part="database"}'))
    return status, float(line.split()[-1])
