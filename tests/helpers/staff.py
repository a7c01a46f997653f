"""Staff for tests: a login in the database, signed in to the admin."""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from litestar import Litestar

from app.staff.logins import create_login

STAFF_PASSWORD = "correct horse battery"


@dataclass
class Staff:
    """Somebody signed in to the admin, with cookies of their own."""

    client: httpx.AsyncClient

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(f"/admin/api/{path}", **options)

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request that would change something, with its CSRF token."""
        headers = {"X-CSRFToken": self.client.cookies["csrftoken"]}
        return await self.client.request(method, f"/admin/api/{path}", json=body, headers=headers)

    async def form(self, name: str, **fields: str) -> tuple[int, str]:
        """The status, and the sentence that staff read."""
        answer = await self.ask("POST", f"forms/{name}/", fields)
        said = answer.json()
        sentence = said.get("custom_form_success") or said.get("custom_form_error") or str(said)
        return answer.status_code, sentence


async def sign_in(
    app: Litestar, username: str, password: str = STAFF_PASSWORD, *, address: str = "http://wallet.test"
) -> tuple[httpx.Response, Staff]:
    """The answer to the sign-in, and whoever asked for it."""
    transport: Any = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
    client = httpx.AsyncClient(transport=transport, base_url=address)
    assert (await client.get("/admin/")).status_code == 200
    answer = await client.post(
        "/admin/public/login/",
        json={"username": username, "password": password},
        headers={"X-CSRFToken": client.cookies["csrftoken"], "Origin": address},
    )
    return answer, Staff(client)


@asynccontextmanager
async def signed_in(
    app: Litestar, username: str, *, operator: bool, address: str = "http://wallet.test"
) -> AsyncIterator[Staff]:
    """A new login, signed in for as long as the block runs."""
    await create_login(username=username, email=f"{username}@example.com", password=STAFF_PASSWORD, operator=operator)
    answer, staff = await sign_in(app, username, address=address)
    assert answer.status_code == 200, answer.text
    async with aclosing(staff.client):
        yield staff


def forget_admins() -> None:
    """
    Clear what FastAPI and Piccolo remember of every admin there was: the kinds of its handlers, and its models.

    In life a process has one admin, and may remember it.
    """
    for each in vars(sys.modules.get("fastapi.dependencies.models", object)).values():
        if hasattr(each, "cache_clear"):
            each.cache_clear()
    if endpoints := sys.modules.get("piccolo_api.fastapi.endpoints"):
        endpoints.ANNOTATIONS.clear()
