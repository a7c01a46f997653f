"""Answers to what never becomes a request of the application's: whole, with an id of their own, and the last ones."""

import msgspec
from uuid_utils import uuid7
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.http.problems import MEDIA_TYPE, Problem, problem_type
from app.http.security_headers import ANSWER


def problem(status: int, code: str, title: str, detail: str) -> Problem:
    """It names no `instance`: what was asked for is not known, or was not read."""
    return Problem(type=problem_type(code), title=title, status=status, detail=detail, instance="", code=code)


NOT_HTTP = problem(400, "bad_request", "This is not a request.", "Expected HTTP/1.1 (RFC 9112).")
NOT_IMPLEMENTED = problem(
    501,
    "not_implemented",
    "This method or transfer coding is not known here.",
    "Use a method that /docs lists. Send a body with its Content-Length, or in chunks without any other coding.",
)


def answer(problem: Problem, request_id: bytes | None = None) -> bytes:
    """A whole answer, with an id of its own where the request has none yet."""
    body = msgspec.json.encode(problem)
    fields = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if problem.status == 503 else []),
        *ANSWER,
        (b"x-request-id", request_id or str(uuid7()).encode()),
    ]
    return b"".join([STATUS_LINE[problem.status], *(b"%s: %s\r\n" % field for field in fields), b"\r\n", body])
