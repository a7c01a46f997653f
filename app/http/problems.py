"""Refusals and exceptions as problem details (RFC 9457): every answer that is not a success comes from here."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET, Struct, UnsetType
from redis.exceptions import RedisError

from actors.engine.outages import of_postgres
from actors.engine.redis_client import redis_fault
from actors.engine.seldom import Seldom
from actors.refusals import (
    BulkRefused,
    Crowded,
    DatabaseUnavailable,
    FieldError,
    InsufficientFunds,
    OutcomeUnknown,
    Refusal,
    Unavailable,
)
from app.http.explanations import explained
from app.logs.requests import CUT_OFF, route_of
from db.engine import UNAVAILABLE
from db.transaction import CommitInDoubt

log = logging.getLogger(__name__)
_no_database = Seldom(log, "no database for %s: %s")
_no_redis = Seldom(log, "no Redis for %s, and perhaps for others: it %s")

MEDIA_TYPE = "application/problem+json"

# What Litestar itself turns down has no refusal of ours: its status becomes the code.
_CODES = {404: "not_found", 405: "method_not_allowed"}
# Litestar's words, in an error of status 500, when the body ends before its end.
CLIENT_GONE = "client disconnected prematurely"
# In the scope of a request that was refused because this process has too much to do: for `app/server/bounds.py`.
CROWDED = "wallet.crowded"


class Problem(Struct, frozen=True, kw_only=True):
    """A problem document. `code` is stable and meant for programs, `detail` for people."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldError] | UnsetType = UNSET


class ValidationFailed(Refusal):
    """A body or parameter that is not what was asked for; `errors` names the fields."""

    code = "validation_failed"
    title = "The request is not valid."

    def __init__(self, *errors: FieldError, detail: str | None = None) -> None:
        self.errors = errors
        super().__init__(detail or " ".join(f"{error.field or 'body'}: {error.message}" for error in errors))


class UnsupportedMediaType(Refusal):
    """RFC 9110, 15.5.16."""

    status = 415
    code = "unsupported_media_type"
    title = "This media type can't be read here."
    detail = "Send the body as application/json."


class ContentTooLarge(Refusal):
    """RFC 9110, 15.5.14."""

    status = 413
    code = "content_too_large"
    title = "The body is too large."
    detail = "JSON may have 64 KiB, that of a bulk 2 000 KiB, and a profile image 5 MiB. Send less."


class RedisUnavailable(Unavailable):
    """What was asked for can't be had without Redis."""

    detail = "Redis can't be used now. Nothing has happened. Try again in a moment."


# What any body may be turned down for.
BAD_BODY = (ValidationFailed, ContentTooLarge, UnsupportedMediaType)


def problem_response(
    request: Request[Any, Any, Any],
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> Response[bytes]:
    """The problem document as a response."""
    problem = Problem(
        type=problem_type(code),
        title=title,
        status=status,
        detail=detail,
        instance=request.scope["path"],
        code=code,
        errors=list(errors) or UNSET,
    )
    body = msgspec.json.encode(problem)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers or {})


def problem_type(code: str) -> str:
    """The URI of a kind of problem."""
    return f"urn:wallet:problem:{code}"


def refused(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """The answer to a refusal of ours."""
    if isinstance(refusal, Crowded):
        request.scope[CROWDED] = True  # type: ignore[literal-required]
    headers = dict(refusal.headers)
    if refusal.retry_after_seconds is not None:
        headers.setdefault("Retry-After", str(refusal.retry_after_seconds))
    if refusal.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return problem_response(
        request,
        status=refusal.status,
        code=refusal.code,
        title=refusal.title,
        detail=str(refusal),
        errors=refusal.errors,
        headers=headers,
    )


def _invalid_parameters(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    extra = error.extra if isinstance(error.extra, list) else []
    if any(item.get("key") == "data" for item in extra):
        return refused(request, ValidationFailed(detail="A JSON body is needed."))
    parameters = request.route_handler.parsed_fn_signature.parameters
    wanted = {name: parameter.raw for name, parameter in parameters.items()}
    errors = []
    for item in extra:
        _, message = explained(str(item.get("message", "")), str(item.get("key", "")), wanted)
        errors.append(FieldError(field=_name(item), message=message))
    return refused(request, ValidationFailed(*errors, detail=None if errors else str(error.detail)))


def _name(item: dict[str, Any]) -> str:
    """A parameter as the client knows it: Litestar gives a header's name as that of the handler's argument."""
    name = str(item.get("key", ""))
    return name.replace("_", "-").title() if item.get("source") == "header" else name


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    status = error.status_code
    if status == 400:
        return refused(request, ValidationFailed(detail=str(error.detail)))
    if status == 413:
        return refused(request, ContentTooLarge())
    if error.detail == CLIENT_GONE:  # nobody reads the answer; its status is for the log
        return problem_response(request, status=CUT_OFF, code="cut_off", title="The request was cut off.", detail="")
    if status >= 500:
        return _unexpected(request, error)
    headers = dict(error.headers or {})
    title = HTTPStatus(status).phrase
    detail = str(error.detail) or title
    if isinstance(error, MethodNotAllowedException):  # its detail names internals
        title, detail = "This address does not support this method.", f"Use one of: {headers.get('allow', '')}."
    elif detail == title and status == 404:
        title, detail = "There is nothing here.", "Check the address: /docs lists every route."
    return problem_response(
        request, status=status, code=_CODES.get(status, "refused"), title=title, detail=detail, headers=headers
    )


def _database_gone(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _no_database.warn(route_of(request.scope), of_postgres(error))
    return refused(request, DatabaseUnavailable())


def _redis_gone(request: Request[Any, Any, Any], error: RedisError) -> Response[bytes]:
    _no_redis.warn(route_of(request.scope), redis_fault(error))
    return refused(request, RedisUnavailable())


def _in_doubt(request: Request[Any, Any, Any], _error: CommitInDoubt) -> Response[bytes]:
    return refused(request, OutcomeUnknown())


UNEXPECTED = Problem(
    type=problem_type("internal_error"),
    title="Something went wrong here.",
    status=500,
    detail="It has been logged under this answer's X-Request-ID.",
    instance="",
    code="internal_error",
)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("unexpected error in %s %s", request.method, route_of(request.scope), exc_info=error)
    return problem_response(
        request,
        status=UNEXPECTED.status,
        code=UNEXPECTED.code,
        title=UNEXPECTED.title,
        detail=UNEXPECTED.detail,
    )


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    Refusal: refused,
    ValidationException: _invalid_parameters,
    HTTPException: _http_error,
    RedisError: _redis_gone,
    CommitInDoubt: _in_doubt,
    Exception: _unexpected,
    **dict.fromkeys(UNAVAILABLE, _database_gone),
}


def problems(*refusals: type[Refusal]) -> dict[int, ResponseSpec]:
    """The refusals that a route may answer with, for its OpenAPI description: by status, each with an example."""
    by_status: defaultdict[int, list[type[Refusal]]] = defaultdict(list)
    for refusal in refusals:
        by_status[refusal.status].append(refusal)
    return {
        status: ResponseSpec(
            data_container=Problem,
            description=" ".join(f"{each.title} (`{each.code}`)" for each in alike),
            media_type=MEDIA_TYPE,
            generate_examples=False,
            examples=[_example(each) for each in alike],
        )
        for status, alike in sorted(by_status.items())
    }


def _example(refusal: type[Refusal]) -> Example:
    problem: dict[str, Any] = {
        "type": problem_type(refusal.code),
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail or refusal.title,
        "instance": "/users/wallets/1001/transfer",
        "code": refusal.code,
    }
    if refusal is BulkRefused:
        problem["errors"] = BulkRefused([(1, InsufficientFunds())]).errors
    return Example(summary=refusal.code, value=problem)
