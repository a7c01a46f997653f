"""No page of ours sends a visitor to somebody else's, whatever the address says."""

from urllib.parse import urljoin, urlsplit

import httpx
from litestar import Litestar

from tests.helpers.staff import STAFF_PASSWORD, sign_in, signed_in

EVIL = ("//evil.test", "/\\evil.test", "\\\\evil.test", "https:evil.test", "https://evil.test", "%2f%2fevil.test")
EVIL_PATHS = (
    "%5cevil.test",
    "%09//evil.test",
    "..//evil.test/..",
    "//evil.test%2f..",
    "%0d%0alocation:%20https://evil.test",
)


async def test_no_address_redirects_elsewhere(client: httpx.AsyncClient) -> None:
    redirects = 0
    for place in ("", "/admin", "/workers", "/docs", "/media", "/users", "/dev/mailbox"):
        for evil in (*EVIL, *EVIL_PATHS):
            for path in (f"{place}/{evil}", f"{place}{evil}", f"{place}/?next={evil}", f"{place}?next={evil}"):
                url = httpx.URL(scheme="http", host="wallet.test", raw_path=f"/{path.lstrip('/')}".encode())
                for raw in (url, url.copy_with(raw_path=f"/{url.raw_path.decode()}".encode())):
                    location = (await client.get(raw)).headers.get("Location")
                    if location is not None:
                        redirects += 1
                        assert urlsplit(urljoin("http://wallet.test/", location)).netloc == "wallet.test", (
                            raw,
                            location,
                        )
                        assert not location.startswith(("//", "/\\")), raw
    assert redirects, "there are some, to places of our own"


async def test_no_sign_in_redirects_elsewhere(app: Litestar) -> None:
    async with signed_in(app, "ayan", operator=True) as staff:
        answer, _ = await sign_in(app, "ayan")
        assert answer.status_code < 400
        token = {"X-CSRFToken": staff.client.cookies["csrftoken"]}
        for evil in EVIL:
            for name in ("next", "redirect_to", "next_url"):
                for path in ("login", "logout"):
                    body = {"username": "ayan", "password": STAFF_PASSWORD, name: evil}
                    answer = await staff.client.post(
                        f"/admin/public/{path}/", params={name: evil}, json=body, headers=token
                    )
                    assert "Location" not in answer.headers or answer.headers["Location"].startswith("/admin/")


async def test_what_a_request_calls_its_host_is_nowhere_to_go_to(app: Litestar) -> None:
    async with signed_in(app, "ayan", operator=True) as staff:
        for path, to in (
            ("/admin", "/admin/"),
            ("/admin/api/tables/user?__page=2", "/admin/api/tables/user/?__page=2"),
            ("/workers", "/workers/"),
            ("/workers/cron/", "/workers/cron"),
        ):
            answer = await staff.client.get(path, headers={"Host": "evil.test"})
            assert (answer.status_code, answer.headers["Location"]) == (307, to)
