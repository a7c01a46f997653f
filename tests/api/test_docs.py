"""The pages of the documentation: everything that they load comes from here."""

import gzip
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar import get

from app.docs.pages import VIEWERS
from app.main import create_app
from app.settings import Settings

ASSETS = Path(__file__).parents[2] / "app" / "docs" / "assets"


async def test_a_page_loads_nothing_from_elsewhere_and_its_policy_lets_it_load_nothing(
    subtests: pytest.Subtests, client: httpx.AsyncClient
) -> None:
    for path in ["/docs", *(f"/docs/{viewer.name}" for viewer in VIEWERS)]:
        with subtests.test(msg=f"{path!r:.60}"):
            answer = await client.get(path)
            page = answer.text
            assert "://" not in page
            (policy,) = answer.headers.get_list("Content-Security-Policy")
            assert not re.search(r"https?:|\*|unsafe-inline[^;]*script", policy)
            assert "script-src 'self' 'unsafe-eval';" in policy, "no script in the page itself"
            assert "frame-ancestors 'none'" in policy
            loaded = re.findall(r'(?:src|href)="(/docs/assets/[^"]+)"', page)
            assert len(loaded) >= 3
            for asset in loaded:
                plain = await client.get(asset, headers={"Accept-Encoding": "identity"})
                packed = await client.get(asset, headers={"Accept-Encoding": "br, gzip"})
                assert (plain.status_code, packed.status_code) == (200, 200)
                assert "Content-Encoding" not in plain.headers
                assert packed.headers["Content-Encoding"] == "gzip"
                assert plain.content == packed.content != b""
                assert plain.headers["Content-Type"].startswith(("text/javascript", "text/css"))


async def test_an_application_tells_of_its_own_routes_though_there_were_others_before(settings: Settings) -> None:
    @get("/its-own")
    async def its_own() -> str:
        return ""

    create_app(settings)
    app = create_app(settings)
    app.register(its_own)
    transport = httpx.ASGITransport(cast(Any, app))
    async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as client:
        assert "/its-own" in (await client.get("/docs/openapi.json")).json()["paths"]


async def test_what_is_no_asset_is_not_found(client: httpx.AsyncClient) -> None:
    for name in ("SOURCES.md", "swagger-ui-5.35.0.js.gz", "..%2f..%2fmain.py", "redoc-LICENSE", "none.js"):
        assert (await client.get(f"/docs/assets/{name}")).status_code == 404, name


def test_the_assets_are_those_that_their_sources_name() -> None:
    sources = (ASSETS / "SOURCES.md").read_text()
    named = dict(re.findall(r"^\| (\S+\.gz) \|.*\| ([0-9a-f]{64}) \|$", sources, re.MULTILINE))
    assert named == {file.name: sha256(file.read_bytes()).hexdigest() for file in ASSETS.glob("*.gz")}
    for file in ASSETS.glob("*.gz"):
        assert len(gzip.decompress(file.read_bytes())) > 100_000
