"""Piccolo Admin, as we want it. Importing it takes most of a second: `app/staff/admin.py` waits for the first visit."""

import logging
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from asyncpg.exceptions import DataError
from piccolo_admin.endpoints import create_admin
from piccolo_api.rate_limiting.middleware import RateLimitProvider
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.bank import Bank
from actors.engine.outages import of_postgres
from actors.engine.seldom import Seldom
from actors.refusals import DatabaseUnavailable
from app.limits.requests import RateLimiter
from app.limits.threads import Threads
from app.staff.admin_tables import TABLES
from app.staff.logins import Guard, StaffLogin, client_address, on_guard
from app.staff.money_forms import money_forms
from app.staff.people_forms import people_forms
from db.engine import UNAVAILABLE
from db.transaction import CommitInDoubt

log = logging.getLogger(__name__)
_no_database = Seldom(log, "no database for the admin: %s")

SESSION = timedelta(hours=1)
SESSION_MAX = timedelta(hours=12)

# Piccolo Admin has no read-only look: what could only fail is taken out of the page. The API refuses it all the same.
_LINKS = (
    '<link rel="icon" href="data:,"><script defer src="./read-only.js"></script>'
    '<link rel="stylesheet" href="./read-only.css">'
)


class AddressOnly(RateLimitProvider):
    """Limits nothing by itself, only tells the login where the request is from: the limit is in Redis."""

    def increment(self, identifier: str) -> None:
        client_address.set(identifier)


def build(
    bank: Bank, limiter: RateLimiter, threads: Threads, *, production: bool, public_url: str, phone_region: str
) -> ASGIApp:
    """The admin as an application of its own; it expects to be mounted."""
    admin: Any = create_admin(
        tables=TABLES,
        forms=[*money_forms(bank), *people_forms(phone_region)],
        auth_table=StaffLogin,
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
    mounts = {route.path: route.app for route in admin.routes if hasattr(route, "app")}
    for part in (mounts["/api"].app, mounts["/public"]):
        for error in (ValueError, TypeError, DataError):
            part.add_exception_handler(error, _not_understood)
        _say_when_unavailable(part)
        # These load Swagger UI from a CDN, which the admin's content security policy does not let them.
        _close(part, "/docs")
    _say_when_unavailable(admin)  # sessions are looked up around the parts
    # Strangers learn nothing of what is behind the sign-in: `/api/openapi.json` is for staff.
    _close(admin, "/openapi.json")
    _close(mounts["/public"], "/openapi.json")
    guard = Guard(limiter=limiter, threads=threads, nobodys_password=StaffLogin.hash_password("nobody's"))

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        token = on_guard.set(guard)
        try:
            await admin(scope, receive, send)
        finally:
            on_guard.reset(token)

    return guarded


def _close(part: Any, path: str) -> None:
    """Take away a route of FastAPI's or Piccolo Admin's that nobody is to have."""
    part.router.routes = [route for route in part.routes if route.path != path]


def _say_when_unavailable(part: Any) -> None:
    """Piccolo Admin would log a traceback for each request of an outage."""
    for error in (*UNAVAILABLE, CommitInDoubt, DatabaseUnavailable):
        part.add_exception_handler(error, _unavailable)


async def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    # What a command or the bank says itself tells whether something may have happened.
    said = str(error) if isinstance(error, CommitInDoubt | DatabaseUnavailable) else str(DatabaseUnavailable())
    if isinstance(error, UNAVAILABLE):
        _no_database.warn(of_postgres(error))
    # The page shows `custom_form_error` where a form was sent, `detail` elsewhere.
    answer = {"detail": said, "custom_form_error": said, "code": DatabaseUnavailable.code}
    return JSONResponse(answer, 503, {"Retry-After": str(DatabaseUnavailable.retry_after_seconds)})


async def _not_understood(request: Request, error: Exception) -> JSONResponse:
    """What Piccolo or the database makes nothing of, such as an order by a column that is not there, or two pages."""
    if isinstance(error, TypeError) and request.method not in ("GET", "HEAD"):
        raise error  # a form's: a mistake of ours
    # Not with its path or its question, in which there is whatever somebody has typed.
    log.info("the admin could not answer: %s", type(error).__name__)
    return JSONResponse({"detail": "This can't be answered. Check the filters, the order and the page."}, 400)
