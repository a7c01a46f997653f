"""The admin in production: behind a proxy that speaks TLS."""

import pytest
from litestar import Litestar

from app.settings import Settings
from tests.helpers.production import ADDRESS, in_production
from tests.helpers.staff import STAFF_PASSWORD, sign_in, signed_in


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return in_production(settings)


async def test_cookies_are_secure_and_a_request_from_another_site_is_refused(app: Litestar) -> None:
    async with signed_in(app, "ayan", operator=True, address=ADDRESS) as staff:
        answer, _ = await sign_in(app, "ayan", address=ADDRESS)
        (session,) = answer.headers.get_list("Set-Cookie")
        cookies = [session, (await staff.client.get("/admin/", headers={"Cookie": ""})).headers["Set-Cookie"]]
        assert [cookie.split("=")[0] for cookie in cookies] == ["id", "csrftoken"]
        for cookie in cookies:
            assert cookie.count("Secure") == 1, cookie
            assert "samesite=lax" in cookie.lower(), cookie
        assert "httponly" in session.lower()

        headers = {"X-CSRFToken": staff.client.cookies["csrftoken"]}
        form = {"wallet_number": "1", "reason": "a reason"}
        for origin, status in ((None, 403), ("https://evil.example", 403), ("null", 403), (ADDRESS, 422)):
            sent = headers | ({"Origin": origin} if origin else {})
            answer = await staff.client.post("/admin/api/forms/freeze-a-wallet/", json=form, headers=sent)
            assert answer.status_code == status, (origin, answer.text)
        # The other way round: whoever is lured into a sign-in from elsewhere.
        login = {"username": "ayan", "password": STAFF_PASSWORD}
        evil = headers | {"Referer": "https://evil.example/"}
        assert (await staff.client.post("/admin/public/login/", json=login, headers=evil)).status_code == 403
