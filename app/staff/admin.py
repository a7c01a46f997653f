"""Piccolo Admin at `/admin/`: staff look at everything and act through forms; no row can be edited."""

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from actors.bank import Bank
from app.limits.requests import RateLimiter
from app.limits.threads import Threads
from app.staff.mount import answer, at_first_visit, fault_of_query, path_as_sent, replayed, whole_body, with_headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PATH = "/admin"
# Of the pool's connections: whatever staff search for, the others are there for money.
CONNECTIONS_MAX = 2

_ASSETS = Path(__file__).parent / "assets" / "admin"
_OURS = {
    f"{PATH}/{file.name}": (kind, file.read_bytes())
    for file, kind in ((_ASSETS / "read-only.js", b"text/javascript"), (_ASSETS / "read-only.css", b"text/css"))
}


def admin_route(
    bank: Bank, limiter: RateLimiter, threads: Threads, *, production: bool, public_url: str, phone_region: str
) -> ASGIRouteHandler:
    """The admin as a mount of the application. It is built at the first visit: importing it takes most of a second."""
    looking = asyncio.Semaphore(CONNECTIONS_MAX)

    def build() -> "ASGIApp":
        from app.staff.admin_app import build

        return build(bank, limiter, threads, production=production, public_url=public_url, phone_region=phone_region)

    app = at_first_visit(build)

    @asgi(PATH, is_mount=True, copy_scope=True)
    async def admin(scope: Scope, receive: Receive, send: Send) -> None:
        path = path_as_sent(scope)
        if path == PATH:
            await answer(send, 307, b"", (b"location", f"{PATH}/".encode()))
            return
        if ours := _OURS.get(path):
            await answer(send, 200, ours[1], content_type=ours[0])
            return
        if fault := fault_of_query(scope):
            await answer(send, 400, fault.encode())
            return
        # The login reads it before anybody is known.
        body = await whole_body(receive)
        if body is None:
            await answer(send, 413, b"The request is too large.", (b"connection", b"close"))
            return
        posts = scope.get("method") == "POST"
        if posts and _is_json_but_no_object(body):
            await answer(send, 400, b"Expected a JSON object.")
            return
        inner: Any = {**scope, "app": None, "path": path, "root_path": PATH, "state": {}}
        decorated = with_headers(send, production=production, keep=path.startswith(f"{PATH}/assets/"))
        looks = path.startswith(f"{PATH}/api/") and not posts
        async with looking if looks else nullcontext():
            await (await app())(inner, replayed(body, receive), decorated)

    return admin


def _is_json_but_no_object(body: bytes) -> bool:
    """Piccolo takes any JSON for an object."""
    try:
        return not isinstance(json.loads(body), dict)
    except RecursionError:
        return True
    except ValueError:  # a form, or nonsense that Piccolo refuses itself
        return False
