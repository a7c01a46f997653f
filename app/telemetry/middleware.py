"""The outermost layer of the application: whatever becomes of a request, it has an id, a number and a line."""

import re
from asyncio import CancelledError
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Gauge, Histogram
from structlog.contextvars import bind_contextvars
from uuid_utils import uuid7

from app.http.security_headers import security_headers
from app.logs.requests import CUT_OFF, RequestLog, route_of

_USABLE = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)

# Its count is also the number of requests: a counter beside it would cost each of them another microsecond.
_SECONDS = Histogram(
    "wallet_http_request_duration_seconds",
    "How long requests took, by the route's template.",
    ["method", "path", "status_code"],
    buckets=[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0],
)
_UNDER_WAY = Gauge("wallet_http_requests_in_progress", "Requests under way.", multiprocess_mode="livesum")

_seconds: dict[tuple[str, str, int], Histogram] = {}


class RequestTelemetry:
    """
    Puts `X-Request-ID` and what browsers are to heed on the answer, the id on every line logged
    meanwhile, counts the request, and logs how it ended.

    One layer for all of it, around everything: a path that no route has is seen too, and a payment passes it once.
    """

    def __init__(self, app: ASGIApp, log: RequestLog, *, production: bool) -> None:
        self._app = app
        self._log = log
        self._with_security = security_headers(production=production)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, however that ends."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        header = new_request_id(scope)
        id = header.decode()
        # Never unbound: each request has a task of its own, and the server may still have to log how it failed.
        bind_contextvars(request_id=id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = headers = self._with_security(scope["path"], message["headers"])
                headers.append((b"x-request-id", header))
            await send(message)

        otherwise = 500
        _UNDER_WAY.inc()
        started = perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except CancelledError:
            otherwise = CUT_OFF
            raise
        finally:
            seconds, route, status = perf_counter() - started, route_of(scope), status or otherwise
            _UNDER_WAY.dec()
            _count(str(scope.get("method")), route, status, seconds)
            self._log.tell(scope, id=id, route=route, status=status, seconds=seconds)


def new_request_id(scope: Scope) -> bytes:
    """Choose the id of a request that has just come in."""
    sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    chosen = sent if _USABLE.fullmatch(sent) else str(uuid7()).encode()
    scope["state"]["request_id"] = chosen
    return chosen


def request_id(scope: Scope) -> str:
    """The id that was chosen for this request."""
    known: bytes = scope["state"]["request_id"]
    return known.decode()


def _count(method: str, route: str, status: int, seconds: float) -> None:
    """A request has been answered. Label sets are looked up once: the library takes its time for it."""
    histogram = _seconds.get((method, route, status))
    if histogram is None:
        histogram = _seconds[method, route, status] = _SECONDS.labels(method, route, str(status))
    histogram.observe(seconds)
