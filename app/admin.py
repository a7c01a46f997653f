"""Piccolo Admin at `/admin/`: staff look at everything and act through forms; no row can be edited."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Message, Receive, Scope, Send

from actors.bank import Bank
from actors.refusals import DatabaseUnavailable
from app.limits import RateLimiter
from app.threads import Threads
from db.engine import UNAVAILABLE

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PATH = "/admin"
BODY_MAX_BYTES = 64 * 1024
# Of the pool's connections: whatever staff search for, the others are there for money.
CONNECTIONS_MAX = 2

_POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;"
    b" object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
)

_ASSETS = Path(__file__).parent / "assets" / "admin"
_OURS = {
    f"{PATH}/{file.name}": (kind, file.read_bytes())
    for file, kind in ((_ASSETS / "read-only.js", b"text/javascript"), (_ASSETS / "read-only.css", b"text/css"))
}


def admin_route(bank: Bank, limiter: RateLimiter, *, production: bool, public_url: str) -> ASGIRouteHandler:
    """The admin as a mount of the application. It is built at the first visit: importing it takes most of a second."""
    threads = Threads("staff password", count=1, waiting_max=8)
    looking = asyncio.Semaphore(CONNECTIONS_MAX)
    built: asyncio.Future[ASGIApp] | None = None

    async def app() -> "ASGIApp":
        nonlocal built
        if built is None:
            built = asyncio.ensure_future(asyncio.to_thread(build))
        return await asyncio.shield(built)

    def build() -> "ASGIApp":
        from app.admin_build import build

        return build(bank, limiter, threads, production=production, public_url=public_url)

    @asgi(PATH, is_mount=True, copy_scope=True)
    async def admin(scope: Scope, receive: Receive, send: Send) -> None:
        # As it was sent: Litestar adds a slash, which the admin's own routes tell from none.
        path = unquote(scope["raw_path"].decode("ascii", "replace"))
        if path == PATH:
            await _answer(send, 307, b"", (b"location", f"{PATH}/".encode()))
            return
        if ours := _OURS.get(path):
            await _answer(send, 200, ours[1], content_type=ours[0])
            return
        body = await _whole_body(receive)
        if body is None:
            await _answer(send, 413, b"The request is too large.", (b"connection", b"close"))
            return
        posts = scope.get("method") == "POST"
        if posts and _is_json_but_no_object(body):
            await _answer(send, 400, b"Expected a JSON object.")
            return
        inner: Any = {**scope, "app": None, "path": path, "root_path": PATH, "state": {}}
        answer = _with_headers(send, production=production, keep=path.startswith(f"{PATH}/assets/"))
        looks = path.startswith(f"{PATH}/api/") and not posts
        try:
            async with looking if looks else nullcontext():
                await (await app())(inner, _replayed(body, receive), answer)
        except UNAVAILABLE:
            await _answer(send, 503, str(DatabaseUnavailable()).encode(), (b"retry-after", b"1"))

    return admin


def _is_json_but_no_object(body: bytes) -> bool:
    """Piccolo takes any JSON for an object."""
    try:
        return not isinstance(json.loads(body), dict)
    except RecursionError:
        return True
    except ValueError:  # a form, or nonsense that Piccolo refuses itself
        return False


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, or None where it is beyond the bound: the login reads it before anybody is known."""
    body = b""
    while len(body) <= BODY_MAX_BYTES:
        message: Any = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body"):
            return body
    return None


def _replayed(body: bytes, receive: Receive) -> Any:
    """A `receive` that first gives this body."""
    first: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return first.pop() if first else await receive()

    return replayed


def _with_headers(send: Send, *, production: bool, keep: bool) -> Any:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (name, _secure(value) if production else value) if name == b"set-cookie" else (name, value)
                for name, value in message["headers"]
            ]
            known = {name.lower() for name, _ in headers}
            ours = _HEADERS if keep else (*_HEADERS, (b"cache-control", b"no-store"))
            message["headers"] = [*headers, *(each for each in ours if each[0] not in known)]
        await send(message)

    return with_headers


def _secure(cookie: bytes) -> bytes:
    """Piccolo says so of the session's cookie alone."""
    return cookie if b"; secure" in cookie.lower() else cookie + b"; Secure"


async def _answer(
    send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], content_type: bytes = b"text/plain"
) -> None:
    everything = [
        (b"content-type", content_type + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": everything})
    await send({"type": "http.response.body", "body": body, "more_body": False})
