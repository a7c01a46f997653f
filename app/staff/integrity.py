"""`GET /health/integrity`: staff see what the last audit of the ledger has found, and whether there was one."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from actors.refusals import Refusal
from app.staff.mount import at_first_visit
from db.audit import Finding, last_result

if TYPE_CHECKING:
    from piccolo_api.session_auth.middleware import SessionsAuthBackend

PATH = "/health/integrity"
# One is made each night: after two without one, somebody should look at the worker.
OLD = timedelta(days=2)
# Of the pool's connections, for whatever strangers send as a cookie.
CONNECTIONS_MAX = 1


class NotStaff(Refusal):
    status = 401
    code = "not_authenticated"
    title = "This is for staff."
    detail = "Sign in at /admin/ first."
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Session realm="staff"'}


class Integrity(Struct, frozen=True, kw_only=True):
    """
    The last audit. `failed` and `old` are alarms; `unknown` means that none has been made yet, or that it is dated in
    the future, so that nobody knows how old it is.
    """

    status: Literal["ok", "failed", "old", "unknown"]
    detail: str
    checked_at: datetime | None = None
    age_seconds: int | None = None
    took_seconds: float | None = None
    wallets: int | None = None
    transactions: int | None = None
    entries: int | None = None
    findings: list[Finding] = []
    notes: list[Finding] = []


def integrity_route() -> HTTPRouteHandler:
    """The route. It asks for the cookie that `/admin/` sets; nothing here keeps a session alive."""
    looking = asyncio.Semaphore(CONNECTIONS_MAX)

    def build() -> "SessionsAuthBackend":
        from piccolo_api.session_auth.middleware import SessionsAuthBackend

        from app.staff.logins import StaffLogin

        return SessionsAuthBackend(auth_table=StaffLogin)

    sessions = at_first_visit(build)

    async def is_staff(request: Request[Any, Any, Any]) -> bool:
        if "id" not in request.cookies:
            return False
        backend = await sessions()
        from starlette.authentication import AuthenticationError
        from starlette.requests import HTTPConnection

        try:
            return await backend.authenticate(HTTPConnection(dict(request.scope))) is not None
        except AuthenticationError:
            return False

    @get(PATH, include_in_schema=False)
    async def integrity(request: Request[Any, Any, Any]) -> Response[Integrity]:
        """What the last audit has found, and how old that is."""
        async with looking:
            if not await is_staff(request):
                raise NotStaff()
            return Response(await last_integrity(), headers={"Cache-Control": "no-store"})

    return integrity


async def last_integrity() -> Integrity:
    """What is known of the ledger. Raises what the database raises when it can't be reached."""
    kept = await last_result()
    if kept is None:
        return Integrity(status="unknown", detail="No audit has been made yet. `wallet audit --keep` makes one.")
    report, old = kept.report, kept.age
    status: Literal["ok", "failed", "old", "unknown"] = "ok"
    detail = "The ledger holds."
    if not report.ok:
        status, detail = "failed", "The ledger does not hold. Look at the findings, and run `wallet audit` again."
    elif old is None:
        status = "unknown"
        detail = (
            "The last audit is dated in the future: a clock has jumped. Run `wallet audit --keep` when it is right."
        )
    elif old > OLD:
        status, detail = "old", f"The last audit was {old.days} days ago. Does a worker run? See /workers/."
    return Integrity(
        status=status,
        detail=detail,
        checked_at=report.checked_at,
        age_seconds=None if old is None else old // timedelta(seconds=1),
        took_seconds=report.seconds,
        wallets=report.wallets,
        transactions=report.transactions,
        entries=report.entries,
        findings=report.findings,
        notes=report.notes,
    )
