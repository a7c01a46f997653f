"""The dashboard with its door: who may see it, who may act. Importing this takes a while, so it is built late."""

import asyncio
import base64
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from piccolo_api.session_auth.middleware import SessionsAuthBackend
from saq.queue.redis import RedisQueue
from saq_board.api import VIEWS
from saq_board.web.common import STATIC_PATH, render
from starlette.applications import Starlette
from starlette.authentication import AuthenticationError
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from app.staff.logins import StaffLogin
from app.staff.mount import POLICY
from app.staff.workers_board import StaffBoard

if TYPE_CHECKING:
    from saq_board.api import Handler

log = logging.getLogger(__name__)

LOGIN = "/admin/"
# Of the pool's connections: the page asks again every two seconds, and the others are there for money.
CONNECTIONS_MAX = 1
# As in the admin, a click keeps a session alive; the page's own questions must not, or it would never end.
CLICK_EXTENDS = timedelta(minutes=20)

# What may stand in a log: the key of a job is whatever somebody has typed.
_NAMEABLE = re.compile(r"[\w:/-]{1,200}", re.ASCII)

_SCRIPT = Path(__file__).parent / "assets" / "workers" / "staff.js"


def build(queue: RedisQueue, *, path: str, public_url: str) -> ASGIApp:
    """The dashboard as an application of its own, mounted at `path`."""
    board = StaffBoard(queue)
    pages = {acts: _page(path, read_only=not acts) for acts in (True, False)}

    async def page(request: Request) -> Response:
        return pages[request.scope["staff"].superuser]

    async def script(_request: Request) -> Response:
        return FileResponse(_SCRIPT)

    def endpoint(method: str, handler: "Handler") -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            status, said = await board.call(
                method, handler, dict(request.path_params), request.query_params, await request.body()
            )
            headers = {"Retry-After": "1"} if status == 503 else None
            return Response(json.dumps(said, default=repr), status, headers, "application/json")

        return call

    return _for_staff(
        Starlette(
            routes=[
                *(Route(path, endpoint(method, handler), methods=[method]) for method, path, handler in board.routes()),
                *(Route(path, page) for path in VIEWS),
                Route("/static/staff.js", script),
                Mount("/static", StaticFiles(directory=STATIC_PATH)),
            ]
        ),
        path,
        public_url,
    )


def _page(path: str, *, read_only: bool) -> Response:
    """The board's page, which its policy lets run the one script that is written into it."""
    text = render(path, read_only)
    (inline,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest())
    title = f'<title>Wallet workers</title><script defer src="{path}/static/staff.js"></script>'
    policy = b"%b; script-src 'self' 'sha256-%b'" % (POLICY, digest)
    return HTMLResponse(
        text.replace("<title>SAQ Board</title>", title), headers={"Content-Security-Policy": policy.decode()}
    )


def _for_staff(app: ASGIApp, path: str, public_url: str) -> ASGIApp:
    clicks = SessionsAuthBackend(auth_table=StaffLogin, increase_expiry=CLICK_EXTENDS)
    questions = SessionsAuthBackend(auth_table=StaffLogin)
    looking = asyncio.Semaphore(CONNECTIONS_MAX)
    public_host = urlsplit(public_url).netloc

    async def signed_in(scope: Scope, *, clicked: bool) -> Any:
        try:
            async with looking:
                found = await (clicks if clicked else questions).authenticate(HTTPConnection(scope))
        except AuthenticationError:
            return None
        return found and getattr(found[1], "user", None)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        acts = scope["method"] not in ("GET", "HEAD")
        is_page = not acts and not scope["path"].startswith((f"{path}/api/", f"{path}/static/"))
        staff = await signed_in(scope, clicked=acts or is_page)
        inside: ASGIApp
        if staff is None:
            inside = RedirectResponse(LOGIN, 303) if is_page else _refusal(401, "Sign in at /admin/ first.")
        elif acts and not _from_here(Request(scope), public_host):
            inside = _refusal(403, "This came from another site. Use the page at /workers/.")
        elif acts and not staff.superuser:
            inside = _refusal(403, "You may look, but not act. Ask an operator.")
        else:
            inside = app
            if acts:
                asked = scope["path"] if _NAMEABLE.fullmatch(scope["path"]) else "something that has no such name"
                log.info("Staff: %s asks for %s", staff.username, asked)
        await inside({**scope, "staff": staff}, receive, send)

    return door


def _refusal(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


def _from_here(request: Request, public_host: str) -> bool:
    """Whether one of our own pages asks: browsers say so, and no other site can make them say it."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return urlsplit(request.headers.get("origin", "")).netloc in {request.headers.get("host"), public_host}
