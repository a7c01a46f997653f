"""The outermost layer of the application: whatever becomes of a request, it has an id, a number and a line."""

from asyncio import CancelledError
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from app import http_metrics
from app.request_id import new_request_id
from app.request_log import CUT_OFF, RequestLog, route_of
from app.security_headers import security_headers


class Observed:
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
        http_metrics.UNDER_WAY.inc()
        started = perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except CancelledError:
            otherwise = CUT_OFF
            raise
        finally:
            seconds, route, status = perf_counter() - started, route_of(scope), status or otherwise
            http_metrics.UNDER_WAY.dec()
            http_metrics.ended(str(scope.get("method")), route, status, seconds)
            self._log.tell(scope, id=id, route=route, status=status, seconds=seconds)
