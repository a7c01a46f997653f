"""One case for every reason to be turned down: its status, its code, and what every refusal has."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from litestar import Litestar
from msgspec import Struct
from msgspec.structs import replace

from actors.bank import Limits
from actors.refusals import DatabaseUnavailable, Refusal
from app.auth.tokens import Lifetimes, Tokens
from app.limits.bodies import ORDINARY_BYTES
from app.limits.requests import RateLimits
from app.people.passwords.hashing import Passwords
from app.settings import Settings
from db.engine import engine
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers
from db.tables import User, Wallet
from tasks.rates.api import RatesSource
from tasks.settings import DEVELOPMENT_SECRET
from tests.helpers.prices import publish_rates
from tests.helpers.refusals import refusal
from tests.helpers.staff import Staff, sign_in, signed_in
from tests.helpers.users import CodeOf, OpenWallet, Person, register

# The contract's table, and what a web framework refuses by itself.
STATUSES = {
    **dict.fromkeys(["validation_failed", "insufficient_funds", "wallet_blocked", "wallet_frozen", "same_wallet"], 400),
    **dict.fromkeys(["wallet_exists", "balance_limit", "amount_too_small", "invalid_code", "wrong_password"], 400),
    **dict.fromkeys(["receiver_unavailable", "amount_too_large", "user_exists"], 400),
    "bulk_refused": 400,
    **dict.fromkeys(["not_authenticated", "token_expired", "token_invalid", "wrong_credentials"], 401),
    **dict.fromkeys(["wallet_not_found", "session_not_found", "not_found"], 404),
    "method_not_allowed": 405,
    "content_too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    **dict.fromkeys(["overloaded", "rates_unavailable", "database_unavailable", "unavailable"], 503),
}


class Scene(Struct, frozen=True, kw_only=True):
    """Alice with 100 KZT and an empty USD wallet, Bob with an empty KZT wallet; a limit of one sign-in a phone."""

    client: httpx.AsyncClient
    alice: Person
    mine: OpenWallet
    dollars: OpenWallet
    his: OpenWallet
    code_of: CodeOf
    database_url: str


class TestOrdinary:
    """With everything there."""

    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        await publish_rates(settings.redis_url)
        return replace(settings, limits=RateLimits(sign_ins_per_phone=1), bank=Limits(mailbox_max=8))

    @pytest.fixture
    async def scene(self, client: httpx.AsyncClient, code_of: CodeOf, database_url: str) -> Scene:
        alice, bob = await register(client), await register(client)
        return Scene(
            client=client,
            alice=alice,
            mine=await alice.open_wallet(holding="100"),
            dollars=await alice.open_wallet("USD"),
            his=await bob.open_wallet(),
            code_of=code_of,
            database_url=database_url,
        )

    async def test_each_reason_has_its_status_and_code(self, scene: Scene) -> None:
        for code, case in CASES.items():
            refusal(await case(scene), STATUSES[code], code)


async def test_who_asks_in_the_wrong_place_is_told_where_to_look(client: httpx.AsyncClient) -> None:
    assert "/docs" in refusal(await client.get("/no/such/route"), 404, "not_found")["detail"]
    answer = await client.put("/users/")
    assert answer.headers["Allow"] in refusal(answer, 405, "method_not_allowed")["detail"]


def test_no_refusal_is_without_a_case() -> None:
    known = {kind.code for kind in kinds(Refusal)}
    # What is missing then is missing for a whole class; of images, see test_upload_turns.
    elsewhere = {"rates_unavailable", "database_unavailable", "unavailable"}
    framework = {"not_found", "method_not_allowed"}
    staffs = {"not_reversible", "transaction_not_found"}  # no route of the API asks for a reversal
    assert CASES.keys() | elsewhere | staffs == known | framework
    for kind in kinds(Refusal):
        assert kind.code in staffs or kind.status == STATUSES[kind.code]


def kinds(refusal: type[Refusal]) -> Iterator[type[Refusal]]:
    """All the classes below one."""
    for kind in refusal.__subclasses__():
        yield kind
        yield from kinds(kind)


async def validation_failed(scene: Scene) -> httpx.Response:
    return await scene.mine.deposit("nothing")


async def insufficient_funds(scene: Scene) -> httpx.Response:
    return await scene.mine.withdraw("100.01")


async def wallet_blocked(scene: Scene) -> httpx.Response:
    await Wallet.update({Wallet.is_active: False}).where(Wallet.id == scene.mine.id)
    answer = await scene.mine.withdraw("1")
    await Wallet.update({Wallet.is_active: True}).where(Wallet.id == scene.mine.id)
    return answer


async def wallet_frozen(scene: Scene) -> httpx.Response:
    await Wallet.update({Wallet.frozen_at: datetime.now(UTC)}).where(Wallet.id == scene.mine.id)
    answer = await scene.mine.deposit("1")
    await Wallet.update({Wallet.frozen_at: None}).where(Wallet.id == scene.mine.id)
    return answer


async def receiver_unavailable(scene: Scene) -> httpx.Response:
    await Wallet.update({Wallet.frozen_at: datetime.now(UTC)}).where(Wallet.id == scene.his.id)
    answer = await scene.mine.send("1", scene.his)
    await Wallet.update({Wallet.frozen_at: None}).where(Wallet.id == scene.his.id)
    return answer


async def same_wallet(scene: Scene) -> httpx.Response:
    return await scene.mine.send("1", scene.mine)


async def wallet_exists(scene: Scene) -> httpx.Response:
    return await scene.alice.request("POST", "/users/wallets/create/", json={"amount_currency": "KZT"})


async def bulk_refused(scene: Scene) -> httpx.Response:
    return await scene.mine.send_all([(scene.his, "1"), (scene.mine, "1")], atomic=True)


async def balance_limit(scene: Scene) -> httpx.Response:
    return await scene.mine.deposit("999999999999.99")


async def amount_too_small(scene: Scene) -> httpx.Response:
    return await scene.mine.send("0.01", scene.dollars)


async def amount_too_large(scene: Scene) -> httpx.Response:
    await scene.dollars.deposit("999999999999.99")
    answer = await scene.dollars.send("999999999999.99", scene.mine)
    await scene.dollars.withdraw("999999999999.99")
    return answer


async def invalid_code(scene: Scene) -> httpx.Response:
    return await scene.client.post("/users/verify/", json={"session_id": str(uuid4()), "code": "123456"})


async def wrong_password(scene: Scene) -> httpx.Response:
    passwords = Passwords()
    hashed = await passwords.hash("the right password")
    passwords.close()
    await User.update({User.password_hash: hashed}).where(User.id == scene.alice.user_id)
    body = {"password": "another password", "new_password": "the next password"}
    return await scene.alice.request("POST", "/users/password/update/", json=body)


async def user_exists(scene: Scene) -> httpx.Response:
    body = {"email": "eve@example.com", "phone_number": "+77017777777", "password": "a good long password"}
    sessions = [(await scene.client.post("/users/create/", json=body)).json() for _ in range(2)]
    for session in sessions:
        code = {"session_id": session["session_id"], "code": await scene.code_of(session)}
        answer = await scene.client.post("/users/verify/", json=code)
    return answer


async def not_authenticated(scene: Scene) -> httpx.Response:
    return await scene.client.get("/users/wallets/")


async def token_expired(scene: Scene) -> httpx.Response:
    old = Tokens(DEVELOPMENT_SECRET, Lifetimes(access_seconds=-1)).access(scene.alice.user_id, uuid4())
    return await scene.client.get("/users/wallets/", headers={"Authorization": f"Bearer {old}"})


async def token_invalid(scene: Scene) -> httpx.Response:
    forged = Tokens("somebody else's secret of many bytes", Lifetimes()).access(scene.alice.user_id, uuid4())
    return await scene.client.get("/users/wallets/", headers={"Authorization": f"Bearer {forged}"})


async def wrong_credentials(scene: Scene) -> httpx.Response:
    body = {"phone_number": "+77011111111", "password": "not the password"}
    return await scene.client.post("/users/token/create/", json=body)


async def rate_limited(scene: Scene) -> httpx.Response:
    body = {"phone_number": "+77012222222", "password": "not the password"}
    await scene.client.post("/users/token/create/", json=body)
    return await scene.client.post("/users/token/create/", json=body)


async def wallet_not_found(scene: Scene) -> httpx.Response:
    return await scene.alice.request("GET", f"/users/wallets/{scene.his.id}/")


async def session_not_found(scene: Scene) -> httpx.Response:
    return await scene.alice.request("DELETE", f"/users/sessions/{uuid4()}/")


async def not_found(scene: Scene) -> httpx.Response:
    return await scene.client.get("/no/such/route")


async def method_not_allowed(scene: Scene) -> httpx.Response:
    return await scene.alice.request("DELETE", f"/users/wallets/{scene.mine.id}/")


async def content_too_large(scene: Scene) -> httpx.Response:
    return await scene.mine.deposit("1" * ORDINARY_BYTES)


async def unsupported_media_type(scene: Scene) -> httpx.Response:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    path = f"/users/wallets/{scene.mine.id}/deposit/"
    return await scene.alice.request("POST", path, content=b"amount=5", headers=form)


async def idempotency_key_reused(scene: Scene) -> httpx.Response:
    await scene.mine.deposit("1", key="key")
    return await scene.mine.deposit("2", key="key")


async def overloaded(scene: Scene) -> httpx.Response:
    """One order waits for the row, eight fill the mailboxes, and the tenth is turned down at once."""
    before = await scene.mine.balance()
    async with row_lock(scene.database_url, scene.mine.id):
        deposits = [asyncio.create_task(scene.mine.deposit("1")) for _ in range(40)]
        finished, _ = await asyncio.wait(deposits, return_when=asyncio.FIRST_COMPLETED)
    answers = await asyncio.gather(*deposits)
    happened = sum(answer.status_code == 201 for answer in answers)
    assert 0 < happened < 40
    assert await scene.mine.balance() == before + happened
    return finished.pop().result()


CASES: dict[str, Callable[[Scene], Awaitable[httpx.Response]]] = {
    case.__name__: case
    for case in (
        *(validation_failed, insufficient_funds, wallet_blocked, wallet_frozen, same_wallet, wallet_exists),
        *(
            receiver_unavailable,
            balance_limit,
            amount_too_small,
            amount_too_large,
            invalid_code,
            wrong_password,
            user_exists,
            not_authenticated,
            token_expired,
        ),
        *(
            token_invalid,
            wrong_credentials,
            rate_limited,
            wallet_not_found,
            session_not_found,
            not_found,
            method_not_allowed,
        ),
        *(content_too_large, unsupported_media_type, idempotency_key_reused, overloaded, bulk_refused),
    )
}


@asynccontextmanager
async def row_lock(database_url: str, wallet_id: int) -> AsyncIterator[asyncpg.Connection]:
    """Keep a wallet's row from everybody, as a slow transaction of another process would."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM wallet WHERE id = $1 FOR UPDATE", wallet_id)
            yield connection
    finally:
        await connection.close()


class TestDeadline:
    """What has waited too long is answered, and never carried out."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, bank=Limits(deadline_seconds=2))

    async def test_what_was_told_to_come_back_does_not_happen_later(
        self, client: httpx.AsyncClient, database_url: str
    ) -> None:
        wallet = await (await register(client)).open_wallet(holding="10")
        async with row_lock(database_url, wallet.id):
            for late in await asyncio.gather(*(wallet.deposit("1000") for _ in range(4))):
                refusal(late, 503, "overloaded")
        assert (await wallet.deposit("5")).json()["balance_after"] == "15.00"


class TestOldRates:
    """Rates beyond their age convert nothing."""

    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        await publish_rates(settings.redis_url)
        return replace(settings, rates=RatesSource(max_age_hours=0))

    async def test_without_current_rates_money_moves_within_a_currency_only(self, client: httpx.AsyncClient) -> None:
        alice, bob = await register(client), await register(client)
        mine, dollars, his = await alice.open_wallet(), await alice.open_wallet("USD"), await bob.open_wallet()
        assert (await mine.deposit("100")).status_code == 201
        refusal(await mine.send("50", dollars), 503, "rates_unavailable")
        assert (await mine.send("50", his)).status_code == 201
        assert [await wallet.balance() for wallet in (mine, dollars, his)] == [50, 0, 50]

    async def test_an_atomic_bulk_that_lacks_nothing_but_rates_is_told_to_come_again(
        self, client: httpx.AsyncClient
    ) -> None:
        alice, bob = await register(client), await register(client)
        mine, dollars, his = await alice.open_wallet(), await alice.open_wallet("USD"), await bob.open_wallet()
        assert (await mine.deposit("100")).status_code == 201
        refusal(await mine.send_all([(his, "50"), (dollars, "50")], atomic=True), 503, "rates_unavailable")
        problem = refusal(await mine.send_all([(dollars, "50"), ("nobody", "50")], atomic=True), 400, "bulk_refused")
        assert [error["code"] for error in problem["errors"]] == ["rates_unavailable", "wallet_not_found"]
        each = await mine.send_all([(his, "50"), (dollars, "50")])
        assert (each.status_code, [item["status"] for item in each.json()["transfers"]]) == (207, [201, 503])
        assert [await wallet.balance() for wallet in (mine, dollars, his)] == [50, 0, 50]


class TestWithoutDatabase:
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

    @pytest.fixture
    async def staff(self, app: Litestar, client: httpx.AsyncClient) -> AsyncIterator[Staff]:
        async with signed_in(app, "ayan", operator=True) as staff:
            yield staff

    async def test_every_route_says_so_and_service_resumes_by_itself(
        self,
        app: Litestar,
        client: httpx.AsyncClient,
        own_servers: Servers,
        staff: Staff,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        alice = await register(client)
        wallet = await alice.open_wallet(holding="100")
        (postgres,) = own_servers.running
        postgres.interrupt()
        postgres.stop()
        path = f"/users/wallets/{wallet.id}/"
        for method, route, body in (
            ("POST", f"{path}deposit/", {"amount": "1"}),
            ("POST", f"{path}withdraw/", {"amount": "1"}),
            ("POST", f"{path}transfer/", {"amount": "1", "wallet_number": "4000000000"}),
            ("PATCH", f"{path}update/", {"name": "Other"}),
            ("POST", "/users/wallets/create/", {"amount_currency": "EUR"}),
            *(("GET", route, None) for route in (path, f"{path}transactions/", "/users/wallets/", "/users/")),
            ("PATCH", "/users/update/", {"first_name": "Other"}),
            ("POST", "/users/token/create/", {"phone_number": "+77011111111", "password": "a good password"}),
        ):
            refusal(await alice.request(method, route, json=body), 503, "database_unavailable")
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "down")
        assert ready.json()["checks"]["database"]["status"] == "down"
        assert int(ready.headers["Retry-After"]) >= 1
        assert (await client.get("/health/live")).status_code == 200
        freeze = {"wallet_number": wallet.number, "reason": "a reason"}
        for answer in (
            *[await staff.get(path) for path in ("tables/wallet/", "user/", "forms/")],
            await staff.ask("POST", "forms/freeze-a-wallet/", freeze),
            (await sign_in(app, "ayan"))[0],
        ):
            assert (answer.status_code, answer.json()["detail"]) == (503, str(DatabaseUnavailable()))
            assert int(answer.headers["Retry-After"]) >= 1
        assert "Server error" not in caplog.text, "a fault of ours, with a traceback"

        assert own_servers.revive() == ["PostgreSQL"]
        assert (await wallet.deposit("11")).json()["balance_after"] == "111.00"
        assert (await wallet.shown())["name"] == "My wallet"
        assert (await staff.form("freeze-a-wallet", **freeze))[0] == 200
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_request_keeps_the_id_it_came_with(client: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/users/wallets/", "/no/such/route"):
        answer = await client.get(path, headers={"X-Request-ID": "order-7.of_9"})
        assert answer.headers["X-Request-ID"] == "order-7.of_9"
        made_up = {(await client.get(path)).headers["X-Request-ID"] for _ in range(2)}
        assert len(made_up) == 2
        for unusable in ("", "x" * 65, "two words", "semi;colon", "<b>"):
            assert (await client.get(path, headers={"X-Request-ID": unusable})).headers["X-Request-ID"] != unusable
