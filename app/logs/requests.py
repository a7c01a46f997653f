"""One line in the log for each request."""

import sys
from time import time
from typing import Any
from uuid import UUID

import msgspec
from litestar.logging.config import StructLoggingConfig
from litestar.types import Scope
from msgspec import UNSET, Struct, UnsetType, to_builtins
from structlog import BytesLoggerFactory, make_filtering_bound_logger

from app.logs.lines import plain_processors, processors, timestamp
from app.logs.setup import LEVELS, LogStyle
from app.logs.waiting import REQUEST_LINES

# Asked every few seconds by machines that keep their own records.
_QUIET = frozenset(f"{prefix}{path}" for prefix in ("", "/api/v1") for path in ("/health/live", "/health/ready")) | {
    "/metrics"
}
UNMATCHED = "unmatched"
NEVER = 100  # above every level

# The status of a request that was cut off before it had an answer; nginx's number for it.
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
        log_exceptions="never",  # app/http/problems.py does, and knows which are unexpected
    )


class RequestLog:
    """Writes the line of each request that has been answered."""

    def __init__(self, style: LogStyle, *, production: bool) -> None:
        self._level = LEVELS[style.level] if style.requests else NEVER
        self._as_json = style.as_json(production=production)
        self._processors = plain_processors(as_json=self._as_json)

    def tell(self, scope: Scope, *, id: str, route: str, status: int, seconds: float) -> None:
        """How a request ended."""
        level = "warning" if status >= 500 else "debug" if route in _QUIET else "info"
        if LEVELS[level] < self._level:
            return
        user, client = scope.get("user"), scope.get("client")
        line = RequestLine(
            timestamp=timestamp(time()),
            level=level,
            logger=REQUEST_LINES.name,
            request_id=id,
            method=str(scope.get("method")),
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            user_id=getattr(user, "user_id", UNSET),
            client=client[0] if client else UNSET,
        )
        REQUEST_LINES.write(_encode(line) if self._as_json else self._for_people(line))

    def _for_people(self, line: "RequestLine") -> bytes:
        event: Any = to_builtins(line)
        for process in self._processors:
            event = process(REQUEST_LINES, line.level, event)
        return bytes(event)


class RequestLine(Struct, kw_only=True, gc=False):
    """What is said of a request, in this order: never a path or a query, in which there may be anything."""

    timestamp: str
    level: str
    logger: str
    event: str = "request"
    request_id: str
    method: str
    route: str
    status: int
    ms: float
    user_id: UUID | UnsetType
    client: str | UnsetType


_encode = msgspec.json.Encoder().encode


def route_of(scope: Scope) -> str:
    """The template of the route, such as `/users/wallets/{id}`: a path has ids in it, or whatever else was sent."""
    template: str | None = scope.get("path_template")
    if template:
        return template
    handler: Any = scope.get("route_handler")  # a mount has no template
    return str(next(iter(handler.paths))) if handler else UNMATCHED
