"""Piccolo Admin at `/admin/`: staff look at everything and act through forms; no row can be edited."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

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
SESSION = timedelta(hours=1)
SESSION_MAX = timedelta(hours=12)

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

# Piccolo Admin has no read-only look: what could only fail is taken out of the page. The API refuses it all the same.
_ASSETS = Path(__file__).parent / "assets" / "admin"
_OURS = {
    f"{PATH}/{file.name}": (kind, file.read_bytes())
    for file, kind in ((_ASSETS / "read-only.js", b"text/javascript"), (_ASSETS / "read-only.css", b"text/css"))
}
_LINKS = '<script defer src="./read-only.js"></script><link rel="stylesheet" href="./read-only.css">'


def admin_route(bank: Bank, limiter: RateLimiter, *, production: bool, public_url: str) -> ASGIRouteHandler:
    """The admin as a mount of the application. It is built at the first visit: importing it takes most of a second."""
    threads = Threads("staff password", count=1, waiting_max=8)
    built: asyncio.Future[ASGIApp] | None = None

    async def app() -> "ASGIApp":
        nonlocal built
        if built is None:
            built = asyncio.ensure_future(
                asyncio.to_thread(_build, bank, limiter, threads, production=production, public_url=public_url)
            )
        return await asyncio.shield(built)

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
        inner: Any = {**scope, "app": None, "path": path, "root_path": PATH, "state": {}}
        try:
            await (await app())(inner, _replayed(body, receive), _with_headers(send))
        except UNAVAILABLE:
            await _answer(send, 503, str(DatabaseUnavailable()).encode(), (b"retry-after", b"1"))

    return admin


def _build(bank: Bank, limiter: RateLimiter, threads: Threads, *, production: bool, public_url: str) -> "ASGIApp":
    from piccolo_admin.endpoints import create_admin
    from piccolo_api.rate_limiting.middleware import RateLimitProvider

    from app.admin_tables import TABLES
    from app.staff import StaffLogin, client_address
    from app.staff_forms import forms

    class AddressOnly(RateLimitProvider):
        """Limits nothing by itself, only tells the login where the request is from: the limit is in Redis."""

        def increment(self, identifier: str) -> None:
            client_address.set(identifier)

    admin: Any = create_admin(
        tables=TABLES,
        forms=forms(bank),
        auth_table=StaffLogin.guarded_by(limiter, threads),
        session_expiry=SESSION,
        max_session_expiry=SESSION_MAX,
        page_size=25,
        read_only=True,
        rate_limit_provider=AddressOnly(),
        production=production,
        site_name="Wallet staff",
        auto_include_related=False,
        allowed_hosts=[urlsplit(public_url).hostname or ""],
        sidebar_links={"Workers": "/workers/", "API documentation": "/docs"},
    )
    admin.template = admin.template.replace("</head>", f"{_LINKS}</head>").replace("Piccolo Admin", "Wallet staff")
    app: ASGIApp = admin
    return app


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


def _with_headers(send: Send) -> Any:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"]]
            known = {name.lower() for name, _ in headers}
            message["headers"] = [*headers, *(each for each in _HEADERS if each[0] not in known)]
        await send(message)

    return with_headers


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
