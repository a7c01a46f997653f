"""What a line of the log looks like, and what never gets into one."""

import asyncio
import json
import logging
import subprocess
import sys
from asyncio import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from asyncpg.exceptions import CheckViolationError, DataError

from app.auth.tokens import Caller
from app.logs.lines import formatter
from app.logs.requests import RequestLog
from app.logs.setup import LogStyle
from app.logs.waiting import REQUEST_LINES, WAIT_SECONDS, WRITE_BYTES, WaitingLines
from app.telemetry.middleware import RequestTelemetry

USER = UUID("0b9cbd2c-5f5e-4c0e-9f0a-0f6b6a3a9c11")
SECRET = "hidden-word"


def written(message: str, *arguments: object, as_json: bool = True, error: Any = None, **extra: object) -> str:
    record = logging.LogRecord("tasks.messages.mail", logging.WARNING, "mail.py", 1, message, arguments, error)
    record.__dict__.update(extra)
    return formatter(as_json=as_json).format(record)


def caught(error: BaseException) -> Any:
    """As `sys.exc_info()` has it, with a secret among the local variables."""
    password = SECRET
    try:
        assert password
        raise error
    except type(error):
        return sys.exc_info()


def test_a_line_is_json_with_the_fields_of_its_record() -> None:
    line = json.loads(written("sent to %d\n", 2, message_id=USER, attempts=3))
    assert list(line) == ["timestamp", "level", "logger", "event", "message_id", "attempts"]
    assert (line["level"], line["logger"], line["event"]) == ("warning", "tasks.messages.mail", "sent to 2")
    assert (line["message_id"], line["attempts"]) == (str(USER), 3)


@pytest.mark.parametrize("odd", ["half a character: \ud800", 2**70, object(), {"\ud800": [b"x"]}, "two\nlines"])
def test_whatever_is_logged_makes_one_line_of_json(odd: object) -> None:
    text = written("odd", odd=odd)
    assert "\n" not in text
    assert json.loads(text)["event"] == "odd"


def test_a_line_for_people_has_what_happened_first() -> None:
    fields = {"method": "GET", "route": "/users", "status": 200, "ms": 1.5, "user_id": USER}
    assert f"[warning  ] GET /users 200 1.5 ms [tasks.messages.mail] user_id={USER}" in written(
        "request", as_json=False, **fields
    )
    fields = {"job": "deliver", "status": "complete", "ms": 7.0, "attempts": 1}
    assert "] job deliver complete 7.0 ms [tasks.messages.mail] attempts=1" in written("job", as_json=False, **fields)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_local_variable_and_nothing_that_the_database_quotes(as_json: bool) -> None:
    refused = CheckViolationError("new row violates check constraint")
    refused.detail = f"Failing row contains ({SECRET}\n, {SECRET})."
    assert SECRET in str(refused)
    unfit = DataError(f"invalid input for query argument $2: '{SECRET}' (expected str)")
    unfit.__cause__ = refused
    group = ExceptionGroup("several", [refused, ValueError("seen")])
    for error in (refused, unfit, group):
        text = written("failed", as_json=as_json, error=caught(error))
        assert SECRET not in text
        assert "new row violates check constraint" in text
        assert "test_logs.py" in text
    assert "invalid input for query argument $2" in written("failed", as_json=as_json, error=caught(unfit))


def test_a_traceback_for_people_reads_as_python_writes_it() -> None:
    outer = RuntimeError("outer")
    outer.__cause__ = caught(ValueError("inner"))[1]
    text = written("failed", as_json=False, error=caught(outer))
    inner, between, last = text.partition("\nThe above exception was the direct cause of the following exception:\n")
    assert between
    assert inner.endswith("ValueError: inner\n")
    assert "    raise error\n" in inner
    assert last.endswith("RuntimeError: outer")


@pytest.mark.parametrize(
    ("style", "in_production", "in_development"),
    [
        (LogStyle(), True, False),
        (LogStyle(format="json"), True, True),
        (LogStyle(format="console"), False, False),
    ],
)
def test_json_is_for_production_where_nothing_else_is_said(
    style: LogStyle, in_production: bool, in_development: bool
) -> None:
    assert style.as_json(production=True) is in_production
    assert style.as_json(production=False) is in_development


async def line_of(
    inner: Any, capsys: pytest.CaptureFixture[str], scope: dict[str, Any] | None = None, **style: Any
) -> dict[str, Any]:
    """The one line of a request that `inner` answers."""
    log = RequestTelemetry(inner, RequestLog(LogStyle(**{"level": "debug", **style}), production=True), production=True)
    whole = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}, **(scope or {})}
    REQUEST_LINES.flush()
    capsys.readouterr()
    with suppress(ValueError, CancelledError):
        await log(whole, None, _nowhere)  # type: ignore[arg-type]
    REQUEST_LINES.flush()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    line: dict[str, Any] = json.loads(lines[0])
    return line


async def _nowhere(_message: Any) -> None:
    """Whoever asked has gone."""


async def answers_200(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def fails(_scope: Any, _receive: Any, _send: Any) -> None:
    raise ValueError


async def is_cut_off(_scope: Any, _receive: Any, _send: Any) -> None:
    raise CancelledError


async def test_a_request_that_ends_without_an_answer_has_its_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    failed = await line_of(fails, capsys)
    assert (failed["status"], failed["level"], failed["route"]) == (500, "warning", "unmatched")
    cut_off = await line_of(is_cut_off, capsys)
    assert (cut_off["status"], cut_off["level"]) == (499, "info")


async def test_a_requests_line_has_the_clients_id_the_user_and_the_route(capsys: pytest.CaptureFixture[str]) -> None:
    scope = {
        "headers": [(b"x-request-id", b"told-by-the-client")],
        "path_template": "/users/wallets/{id}",
        "path": "/users/wallets/17",
        "query_string": b"limit=1",
        "user": Caller(USER, USER),
        "client": ("10.0.0.7", 5000),
    }
    line = await line_of(answers_200, capsys, scope)
    assert line.pop("timestamp")
    assert line.pop("ms") >= 0
    assert line == {
        "level": "info",
        "logger": "app.requests",
        "event": "request",
        "request_id": "told-by-the-client",
        "method": "GET",
        "route": "/users/wallets/{id}",
        "status": 200,
        "user_id": str(USER),
        "client": "10.0.0.7",
    }


async def test_what_machines_ask_every_few_seconds_is_told_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    for route in ("/health/live", "/api/v1/health/ready", "/metrics"):
        assert (await line_of(answers_200, capsys, {"path_template": route}))["level"] == "debug"


async def test_lines_of_requests_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    log = RequestTelemetry(answers_200, RequestLog(LogStyle(requests=False), production=True), production=True)
    await log({"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}, None, _nowhere)  # type: ignore[arg-type]
    REQUEST_LINES.flush()
    assert capsys.readouterr().err == ""


async def test_lines_wait_until_they_are_many_or_a_moment_has_passed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = WaitingLines("some")
    lines.write(b"x" * 1000)
    assert capsys.readouterr().err == ""
    for _ in range(4):
        lines.write(b"x" * 1000)
    early = capsys.readouterr().err
    assert early == ("x" * 1000 + "\n") * 4
    assert len(early) <= WRITE_BYTES
    await asyncio.sleep(WAIT_SECONDS * 3)
    assert capsys.readouterr().err == "x" * 1000 + "\n"


async def test_nobody_reading_the_log_fails_no_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "closed").open("w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
    lines = WaitingLines("some")
    lines.write(b"into the void")
    lines.flush()


PROCESS = """
import gc, logging, sys, threading, warnings
from app.logs.setup import LogStyle, configure_logs
configure_logs(LogStyle(level="debug"), production=True)
logging.getLogger("tasks.messages.mail").debug("ours at debug")
for library in ("httpx", "httpcore", "saq", "asyncio", "mail.log", "python_multipart.multipart", "PIL.PngImagePlugin"):
    logging.getLogger(library).info("a library tells what it sends")
logging.getLogger("uvicorn.error").warning("a library is heard from warning on", extra={"color_message": "x"})
warnings.warn("a warning", stacklevel=1)
class Falls:
    def __del__(self):
        raise ValueError("where nobody could catch it")
def fall():
    raise ValueError("in a thread")
Falls(); gc.collect()
thread = threading.Thread(target=fall); thread.start(); thread.join()
raise ValueError("in the process")
"""


def test_everything_that_a_process_says_is_in_the_one_format() -> None:
    """Warnings and what nobody catches, too; libraries from warning on only, whatever the level."""
    ended = subprocess.run(
        [sys.executable, "-c", PROCESS], cwd=Path(__file__).parents[2], capture_output=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, b"")
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("tasks.messages.mail", "debug"),
        ("uvicorn.error", "warning"),
        ("py.warnings", "warning"),
        ("app.logs.setup", "error"),
        ("app.logs.setup", "error"),
        ("app.logs.setup", "critical"),
    ]
    raised = [line["exception"][0]["exc_value"] for line in lines if "exception" in line]
    assert raised == ["where nobody could catch it", "in a thread", "in the process"]
    assert set(lines[1]) == {"timestamp", "level", "logger", "event"}
