"""One line in the log for each request, and the request's id on every other line that is logged meanwhile."""

import sys
from asyncio import CancelledError
from time import perf_counter
from typing import Any

from litestar.enums import ScopeType
from litestar.logging.config import StructLoggingConfig
from litestar.types import ASGIApp, Receive, Scope, Send
from structlog import BytesLoggerFactory, make_filtering_bound_logger
from structlog.contextvars import bind_contextvars

from app.auth import Caller
from app.log_lines import plain_processors, processors
from app.logs import LEVELS, LogStyle
from app.request_id import answered_with, request_id
from app.waiting_lines import REQUEST_LINES

# Asked every few seconds by machines that keep their own records.
_QUIET = frozenset(f"{prefix}{path}" for prefix in ("", "/api/v1") for path in ("/health/live", "/health/ready")) | {
    "/metrics"
}
UNMATCHED = "unmatched"
NEVER = 100  # above every level

# What the line says of a request that was cut off before it had an answer; nginx's number for it.
CUT_OFF = 499


def log_config(style: LogStyle, *, production: bool) -> StructLoggingConfig:
    """
    Litestar's configuration for structlog: its own logger, `request.logger` and all of structlog log in this style.

    It is what Litestar's plugin would hand over, without the plugin: see docs/decisions/0012-request-lines.md.
    """
    return StructLoggingConfig(
        processors=processors(as_json=style.as_json(production=production)),
        wrapper_class=make_filtering_bound_logger(LEVELS[style.level]),
        logger_factory=BytesLoggerFactory(sys.stderr.buffer),
        log_exceptions="never",  # app/problems.py does, and knows which are unexpected
    )


class RequestLog:
    """The outermost layer of the application, so that a path without a route has its line too."""

    def __init__(self, app: ASGIApp, style: LogStyle, *, production: bool) -> None:
        self._app = app
        self._level = LEVELS[style.level] if style.requests else NEVER
        self._processors = plain_processors(as_json=style.as_json(production=production))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and log that, however it ends."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        # Never unbound: each request has a task of its own, and the server may still have to log how it failed.
        id = request_id(scope).decode()
        bind_contextvars(request_id=id)
        started = perf_counter()
        otherwise = 500
        try:
            await self._app(scope, receive, send)
        except CancelledError:
            otherwise = CUT_OFF
            raise
        finally:
            self._tell(scope, id, answered_with(scope) or otherwise, perf_counter() - started)

    def _tell(self, scope: Scope, id: str, status: int, seconds: float) -> None:
        route = route_of(scope)
        level = "warning" if status >= 500 else "debug" if route in _QUIET else "info"
        if LEVELS[level] < self._level:
            return
        line: Any = {
            "event": "request",
            "request_id": id,
            "method": scope.get("method"),
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        user, client = scope.get("user"), scope.get("client")
        if isinstance(user, Caller):
            line["user_id"] = user.user_id
        if client:
            line["client"] = client[0]
        # What a logger of structlog's would do; such a logger takes two microseconds to do it, on every payment.
        for process in self._processors:
            line = process(REQUEST_LINES, level, line)
        REQUEST_LINES.write(line)


def route_of(scope: Scope) -> str:
    """The template of the route, such as `/users/wallets/{id}`: a path has ids in it, or whatever else was sent."""
    template: str | None = scope.get("path_template")
    if template:
        return template
    handler: Any = scope.get("route_handler")  # a mount has no template
    return str(next(iter(handler.paths))) if handler else UNMATCHED
