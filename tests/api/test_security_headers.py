"""What browsers are told with every answer, and which pages of other origins may use the API."""

import httpx
import pytest
from msgspec.structs import replace

from app.environment import SettingsError
from app.http.cors import check_origin
from app.server.sockets import Http
from app.settings import Settings, load_settings
from tests.helpers.production import in_production
from tests.helpers.users import register

SHOP = "https://shop.example"


async def test_every_answer_has_them_once(client: httpx.AsyncClient) -> None:
    alice = await register(client)
    wallet = await alice.open_wallet()
    answers = [
        await wallet.deposit("1"),
        await wallet.deposit("nothing"),
        *[await alice.request("GET", path) for path in ("/users", "/users/", "/api/v1/users/", "/users/wallets/")],
        *[await client.get(path) for path in ("/users/", "/users/none", "/health/live", "/metrics", "/nowhere")],
        *[await client.get(path) for path in ("/docs", "/docs/openapi.json", "/dev/mailbox/", "/media/none")],
        *[await client.get(path) for path in ("/admin", "/admin/", "/workers", "/workers/")],
    ]
    for answer in answers:
        path, get = answer.request.url.path, answer.headers.get_list
        staff = path in ("/admin/", "/workers", "/workers/")
        assert get("X-Content-Type-Options") == ["nosniff"], path
        assert get("X-Frame-Options") == ["DENY"], path
        assert get("Referrer-Policy") == ["same-origin" if staff else "no-referrer"], path
        (policy,) = get("Content-Security-Policy")
        assert "frame-ancestors 'none'" in policy, path
        assert policy.startswith("default-src 'self'" if staff else "default-src 'none'"), path
        assert get("Strict-Transport-Security") == [], path
        if "/users" in path:
            assert get("Cache-Control") == ["no-store"], path
            assert policy == "default-src 'none'; frame-ancestors 'none'"


class TestProduction:
    """Browsers that came over TLS once are to stay with it."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return in_production(settings)

    async def test_browsers_are_to_stay_with_tls(self, client: httpx.AsyncClient) -> None:
        for path in ("/users/", "/docs", "/admin/", "/nowhere"):
            assert (await client.get(path)).headers.get_list("Strict-Transport-Security") == ["max-age=31536000"]


class TestOrigins:
    """One origin is allowed."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, http=Http(allowed_origins=f"{SHOP}, http://localhost:3000"))

    async def test_a_page_of_an_allowed_origin_reads_answers_and_refusals(self, client: httpx.AsyncClient) -> None:
        for path in ("/health/live", "/users/", "/nowhere"):
            answer = await client.get(path, headers={"Origin": SHOP})
            assert answer.headers["Access-Control-Allow-Origin"] == SHOP
            assert "Access-Control-Allow-Credentials" not in answer.headers
            exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
            assert {"Link", "Idempotent-Replayed", "X-Request-ID", "Retry-After", "RateLimit"} <= exposed
            assert answer.headers["Vary"] == "Origin"

    async def test_a_preflight_is_answered(self, client: httpx.AsyncClient) -> None:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
        answer = await client.options("/users/wallets/1/deposit/", headers={"Origin": SHOP, **asked})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, SHOP)
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "DELETE" in answer.headers["Access-Control-Allow-Methods"], "sessions are ended by it"
        assert {"Authorization", "Content-Type", "Idempotency-Key"} <= set(
            answer.headers["Access-Control-Allow-Headers"].split(", ")
        )
        assert answer.headers["X-Request-ID"]

    async def test_another_origin_is_told_nothing(self, subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
        for origin in [
            "https://evil.example",
            "null",
            f"{SHOP}.evil.example",
            f"{SHOP}:444",
            "http://shop.example",
            "*",
            "",
        ]:
            with subtests.test(msg=f"{origin!r:.60}"):
                headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                for method, path in (("GET", "/health/live"), ("OPTIONS", "/users/wallets/1/deposit/")):
                    answer = await client.request(method, path, headers=headers)
                    assert not [name for name in answer.headers if name.startswith("access-control")]
                    assert answer.headers["Vary"] == "Origin"


async def test_it_is_off_where_nothing_is_set(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/live", headers={"Origin": SHOP})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "shop.example",
        "https://*.shop.example",
        f"{SHOP}/",
        f"{SHOP}:443",
        "https://SHOP.example",
        "ftp://a",
        "null",
    ],
)
def test_what_is_no_origin_stops_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        check_origin(origin)
    with pytest.raises(SettingsError, match="origin"):
        load_settings({"WALLET_HTTP_ALLOWED_ORIGINS": f"{SHOP}, {origin}"}, needs=())


@pytest.mark.parametrize("origin", [SHOP, "http://localhost:3000", "http://[::1]:8080", "http://127.0.0.1"])
def test_what_is_one_does_not(origin: str) -> None:
    assert Http(allowed_origins=origin).origins == [origin]
