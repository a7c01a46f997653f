"""How a process that keeps running logs: everything in one format, a line for each thing, on stderr."""

import atexit
import logging
import sys
import threading
from typing import Any, Literal, TextIO

from msgspec import Struct

from app.logs.waiting import REQUEST_LINES

ROOMS = ("app", "tasks", "actors", "db")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_log = logging.getLogger(__name__)


class LogStyle(Struct, frozen=True, kw_only=True):
    """Logs of the long-running processes, on stderr."""

    format: Literal["auto", "json", "console"] = "auto"
    """`json`, or `console` for people. `auto` is `json` in production and `console` in development."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level. Libraries log from warning up in any case: at debug they would log what they send."""
    requests: bool = True
    """One line per request: at info, at debug for health checks and metrics, at warning for status 500 or more."""

    def as_json(self, *, production: bool) -> bool:
        """Whether lines are JSON."""
        return self.format == "json" or (self.format == "auto" and production)


def configure_logs(style: LogStyle, *, production: bool) -> None:
    """
    From now on this process logs in this style: what goes through `logging`, warnings, and what nobody has caught.

    What goes through structlog follows where Litestar is given `app.logs.requests.log_config`.
    """
    level = LEVELS[style.level]
    root = logging.getLogger()
    root.handlers[:] = [_Handler(as_json=style.as_json(production=production))]
    root.setLevel(max(level, logging.WARNING))
    for room in ROOMS:
        logging.getLogger(room).setLevel(level)
    # While the database is away, asyncpg tells with a traceback a connection what we tell in a line.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    atexit.register(REQUEST_LINES.flush)
    _log_what_nobody_catches()


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to stderr at once, behind whatever has been waiting to be written."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(sys.stderr)
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            # Not before there is a line: structlog takes a fifth of a second, which would come off each start.
            from app.logs.lines import formatter

            self.formatter = formatter(as_json=self._as_json)
        return super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        REQUEST_LINES.flush()
        super().emit(record)


def _log_what_nobody_catches() -> None:
    """Python itself would write these to stderr, as text and with whatever the exception quotes."""

    def of_process(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        if issubclass(kind, Exception):
            _log.critical("the process ends after an unexpected error", exc_info=(kind, error, traceback))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            _log.error("a thread ended after an unexpected error", exc_info=args.exc_value)

    def of_nobody(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_value is not None:
            _log.error("an error that could not be raised", exc_info=args.exc_value)

    sys.excepthook = of_process
    threading.excepthook = of_thread
    sys.unraisablehook = of_nobody
