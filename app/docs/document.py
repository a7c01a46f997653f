"""What the OpenAPI document says of all operations alike: headers of answers, and what is answered before a handler."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import OpenAPI
from msgspec import Struct

from app.http.problems import MEDIA_TYPE, UNEXPECTED, Problem
from app.server.bounds import HEAD_TOO_LARGE, TOO_SLOW
from app.server.refusals import NOT_IMPLEMENTED


class Header(Struct, frozen=True):
    """One header of answers: what it tells, and how it may look."""

    description: str
    example: str | int


_HEADERS = {
    "X-Request-ID": Header(
        "The request's id in the logs. If you send one of 1 to 64 letters, digits, dots, dashes and underscores, it is"
        " used.",
        "01a21253-281e-728d-b4bb-83948653c5f1",
    ),
    "WWW-Authenticate": Header("The authentication scheme to use (RFC 6750).", "Bearer"),
    "Retry-After": Header("How many seconds to wait before you retry.", 1),
    "RateLimit": Header(
        "Of the rate limits that count you, the one closest to being used up: `r` requests are left, and the window"
        " ends in `t` seconds. Limits by a phone number or an email address are told once you have signed in, and with"
        " a 429. Absent if no limit counts you.",
        '"sign-ins-per-phone";r=29;t=900',
    ),
    "RateLimit-Policy": Header("That limit: `q` requests per `w` seconds.", '"sign-ins-per-phone";q=30;w=900'),
    "Idempotent-Replayed": Header(
        "`true` if the request was carried out before, under the same `Idempotency-Key`. No money moved this time.",
        "true",
    ),
    "Link": Header(
        'The next page, as `rel="next"` (RFC 8288). Absent on the last page.',
        '</users/wallets/1001/transactions/?cursor=…>; rel="next"',
    ),
}
_LIMITS = ("RateLimit", "RateLimit-Policy")
_OF_STATUS: Mapping[str, tuple[str, ...]] = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After", *_LIMITS),
    "503": ("Retry-After",),
}
# What any operation may be answered, whatever its handler: by name, with its description.
_BEFORE: dict[str, tuple[Problem, str]] = {
    "HeadersTooLarge": (HEAD_TOO_LARGE, "The headers are too large or too many (`headers_too_large`)."),
    "InternalError": (UNEXPECTED, "An unexpected error on our side (`internal_error`)."),
}
_BEFORE_A_BODY: dict[str, tuple[Problem, str]] = {
    "RequestTimeout": (TOO_SLOW, "The body took too long to arrive (`request_timeout`)."),
    "NotImplemented": (NOT_IMPLEMENTED, "The body came in an unknown transfer coding (`not_implemented`)."),
}
_IDS = {"/users/sessions/": "3f1c1f0e-5a0b-4c57-9a56-5d1d3a4d7c11", "/users/wallets/": "1001"}


class Config(OpenAPIConfig):
    """Litestar's, with a document that tells all this as well."""

    def to_openapi_schema(self) -> OpenAPI:
        """The document, of which the paths are not known yet."""
        document = super().to_openapi_schema()
        return _Document(**{field.name: getattr(document, field.name) for field in fields(document)})


@dataclass
class _Document(OpenAPI):
    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        components = document["components"]
        components["headers"] = {name: _header(header) for name, header in _HEADERS.items()}
        components["responses"] = {
            name: _answered(problem, description) for name, (problem, description) in (_BEFORE | _BEFORE_A_BODY).items()
        }
        for path, item in document["paths"].items():
            for operation in item.values():
                _complete(path, operation)
        return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Add the headers and refusals that an operation shares with all others of its kind."""
    responses = operation["responses"]
    for status, response in responses.items():
        own = _of_success(operation) if status in ("200", "201") else ()
        response["headers"] = _references("X-Request-ID", *_OF_STATUS.get(status, ()), *own)
        for content in response.get("content", {}).values():
            for example in content.get("examples", {}).values():
                if "instance" in example["value"]:
                    example["value"]["instance"] = _address(path)
    for name, (problem, _) in (_BEFORE | (_BEFORE_A_BODY if "requestBody" in operation else {})).items():
        responses[str(problem.status)] = {"$ref": f"#/components/responses/{name}"}


def _of_success(operation: dict[str, Any]) -> tuple[str, ...]:
    """The headers of a success; see `IdempotencyKeyHeader`, `LimitedResponse` and `HistoryController`."""
    taken = {parameter["name"] for parameter in operation.get("parameters", [])}
    if "Idempotency-Key" in taken:
        return ("Idempotent-Replayed",)
    if "cursor" in taken:
        return ("Link",)
    return _LIMITS if "429" in operation["responses"] else ()


def _references(*headers: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _header(header: Header) -> dict[str, Any]:
    kind = "integer" if isinstance(header.example, int) else "string"
    return {"schema": {"type": kind}, "description": header.description, "example": header.example}


def _answered(problem: Problem, description: str) -> dict[str, Any]:
    example = {"summary": problem.code, "value": msgspec.to_builtins(problem)}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "headers": _references("X-Request-ID"),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": {problem.code: example}}},
    }


def _address(path: str) -> str:
    """The path as somebody may have asked for it."""
    for start, id in _IDS.items():
        if path.startswith(start):
            return path.replace("{id}", id)
    return path
