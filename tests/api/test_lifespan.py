"""An application ends, and nothing in the process keeps it or anything of it."""

import gc
from typing import Any, cast

import httpx
from litestar import Litestar
from redis.asyncio import Redis

from actors.bank import Bank
from app.limits.threads import Threads
from app.main import create_app
from app.settings import Settings
from tests.helpers.staff import forget_admins
from tests.helpers.users import register

# Of all that an application is made of, what would keep the most.
PARTS = (Litestar, Bank, Redis, Threads)


def alive() -> dict[int, object]:
    """The parts that are there, by identity."""
    forget_admins()
    gc.collect()
    return {id(each): each for each in gc.get_objects() if isinstance(each, PARTS)}


async def use(settings: Settings) -> None:
    """An application from its beginning to its end, with the parts that are built at the first visit."""
    app = create_app(settings)
    transport = httpx.ASGITransport(cast(Any, app))
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as client:
        await (await register(client)).open_wallet(holding="10")
        for path in ("/docs", "/docs/openapi.json", "/admin/", "/admin/public/meta/", "/workers/", "/health/integrity"):
            assert (await client.get(path)).status_code < 500, path


async def test_an_application_that_has_ended_is_gone(settings: Settings) -> None:
    before = alive()
    for _ in range(2):
        await use(settings)
    kept = [type(each) for identity, each in alive().items() if identity not in before]
    assert kept == []
