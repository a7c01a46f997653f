"""What a line of the log looks like: structlog processors that make its bytes."""

import json
import logging
import sys
from functools import lru_cache
from time import gmtime, strftime, time
from typing import Any

import msgspec
from structlog.contextvars import merge_contextvars
from structlog.dev import ConsoleRenderer
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from app.logs.tracebacks import exception_as_fields, exception_as_text

# These read like sentences on a terminal: the fields that come first, and what stands between them.
_SENTENCES = {
    "request": (("method", "route", "status", "ms"), "{} {} {} {} ms"),
    "job": (("job", "status", "ms"), "job {} {} {} ms"),
}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def processors(*, as_json: bool) -> list[Processor]:
    """What makes the bytes of a line out of an event, of structlog's or of logging's."""
    exceptions = exception_as_fields if as_json else exception_as_text
    return [merge_contextvars, exceptions, *plain_processors(as_json=as_json)]


def plain_processors(*, as_json: bool) -> list[Processor]:
    """The same for an event that comes with all it has to say, and without an exception."""
    if as_json:
        return [_in_order, _as_json]
    console = ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False, pad_event_to=0)
    return [_in_order, _for_people, console, _as_bytes]


def formatter(*, as_json: bool) -> logging.Formatter:
    """The same for the standard library's `logging`; a record's `extra` becomes fields."""
    return ProcessorFormatter(foreign_pre_chain=[ExtraAdder()], processors=[*processors(as_json=as_json), _as_text])


def _in_order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """What every line has comes first."""
    record: logging.LogRecord | None = event.pop("_record", None)
    if record is None:
        level, name, at = method, logger.name, time()
    else:
        level, name, at = record.levelname.lower(), record.name, record.created
        del event["_from_structlog"]
        event["event"] = event["event"].rstrip()
        event.pop("color_message", None)  # uvicorn's, for its own formatter
    return {"timestamp": timestamp(at), "level": level, "logger": name, "event": event.pop("event"), **event}


def timestamp(at: float) -> str:
    """A moment in Unix seconds, as all lines have it."""
    return f"{_second(int(at))}.{int(at % 1 * 1000):03}Z"


@lru_cache(1)
def _second(at: int) -> str:
    """On the path of every payment: `datetime.isoformat` takes a microsecond more."""
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at))


def _as_json(_logger: WrappedLogger, _method: str, line: EventDict) -> bytes:
    try:
        return _encode(line)
    except (ValueError, OverflowError):  # half a character, or an integer that msgspec finds too large
        return json.dumps(line, default=str).encode()


def _for_people(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """What happened comes first, then who and where."""
    names, sentence = _SENTENCES.get(str(line["event"]), ((), ""))
    if names and all(name in line for name in names):
        line["event"] = sentence.format(*(line.pop(name) for name in names))
    return {name: _plain(value) for name, value in line.items()}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, dict, list)) else str(value)


def _as_bytes(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return str(line).encode("utf-8", "backslashreplace")


def _as_text(_logger: WrappedLogger, _method: str, line: Any) -> str:
    return str(line, "utf-8")
