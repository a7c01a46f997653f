"""How a request that moves money reaches its handler: its arguments are gathered in one step."""

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from litestar import Request, Response
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, ExceptionHandlersMap
from msgspec import Struct

from actors.orders import IdempotencyKey
from actors.refusals import FieldError
from app.auth.tokens import Caller
from app.http.bodies import decode, require_json
from app.http.parameters import KEY_LENGTH_MAX, IdempotencyKeyHeader, WalletId, wallet_id_in
from app.http.problems import CLIENT_GONE, ContentTooLarge, ValidationFailed
from app.limits.bodies import ORDINARY_BYTES
from app.limits.payments import PaymentLimits

_KEY = re.compile(rb"[\x20-\x7e]{1,%d}" % KEY_LENGTH_MAX)


class Initiator(Struct, frozen=True):
    """Who asks for a payment, on which wallet they act, and under which key."""

    caller_id: UUID
    path_id: str
    key: IdempotencyKey | None

    @property
    def wallet_id(self) -> int:
        """The wallet they act on. Raises `WalletNotFound` where no wallet can have the id in the path."""
        return wallet_id_in(self.path_id)


def initiator(
    request: Request[Caller, Any, Any], id: WalletId, idempotency_key: IdempotencyKeyHeader = None
) -> Initiator:
    """A dependency: what every payment takes from the path and the headers."""
    caller_id = request.user.user_id
    key = IdempotencyKey(user_id=caller_id, key=idempotency_key) if idempotency_key is not None else None
    return Initiator(caller_id, id, key)


class PaymentHandler(HTTPRouteHandler):
    """
    A POST whose handler takes `data`, `by` (the `Initiator`) and what the application provides, as `bank`.

    `data` says in `payment_count` how many it asks for: so many count against the caller's limit.

    The OpenAPI document is made of the handler's signature, as that of any other. But where the arguments come from is
    settled when the route is made, and not found out again for each request, which took a quarter of its time.
    """

    def __init__(self, path: str, **options: Any) -> None:
        by = Provide(initiator, sync_to_thread=False)
        super().__init__(path, http_method=HttpMethod.POST, dependencies={"by": by}, **options)
        self._exception_handlers: ExceptionHandlersMap | None = None

    def create_kwargs_model(self, path_parameters: Any) -> Any:
        """What Litestar asks for the arguments of each request."""
        super().create_kwargs_model(path_parameters)  # finds what is declared wrongly
        self._signature_model: Any = _AsGathered
        return _Arguments(self)

    def resolve_exception_handlers(self) -> ExceptionHandlersMap:
        """Who answers for an exception, put together once."""
        if self._exception_handlers is None:
            self._exception_handlers = super().resolve_exception_handlers()
        return self._exception_handlers

    async def to_response(self, app: Any, data: Response[Any], request: Request[Any, Any, Any]) -> ASGIApp:
        """The handler's answer, which needs none of what Litestar would do to it."""
        return data.to_asgi_response(app, request)


class _Arguments:
    """Gathers a request's arguments; the names of its members are Litestar's."""

    has_kwargs = True
    dependency_batches = ()

    def __init__(self, handler: PaymentHandler) -> None:
        assert handler.parsed_data_field
        self._body_struct = handler.parsed_data_field.annotation
        self._body_bytes_max = handler.resolve_request_max_body_size() or 0
        self._whole_body = self._body if self._body_bytes_max <= ORDINARY_BYTES else self._large_body
        providers = handler.resolve_dependencies()
        self._payment_limits: PaymentLimits = providers["payment_limits"].dependency()
        # What a payment takes from the application is one object, from the application's start to its end.
        wanted = handler.parsed_fn_signature.parameters.keys() & providers.keys() - {"by"}
        self._provided = {name: providers[name].dependency() for name in wanted}

    async def to_kwargs(self, connection: Request[Caller, Any, Any]) -> dict[str, Any]:
        """
        What the handler is called with.

        Raises:
            UnsupportedMediaType, ContentTooLarge, ValidationFailed: the headers or the body are not what is wanted.
            Overloaded: there is no room for so large a body.
            RateLimited: the caller has asked for too many payments.
            Unavailable: they can't be counted.
        """
        scope = connection.scope
        headers = scope["headers"]
        require_json(headers)
        data = decode(await self._whole_body(connection), self._body_struct)
        key = _idempotency_key(headers)
        self._payment_limits.count(connection.user.user_id, data.payment_count)
        by = initiator(connection, scope["path_params"]["id"], key)
        return {"data": data, "by": by, **self._provided}

    async def _large_body(self, connection: Request[Any, Any, Any]) -> bytes:
        with connection.app.state.large_bodies.room(connection, bytes_max=self._body_bytes_max):
            return await self._body(connection)

    async def _body(self, connection: Request[Any, Any, Any]) -> bytes:
        body, more = b"", True
        while more:
            event: Any = await connection.receive()
            if event["type"] == "http.disconnect":
                raise InternalServerException(CLIENT_GONE)
            body += event["body"]
            if len(body) > self._body_bytes_max:
                raise ContentTooLarge()
            more = event["more_body"]
        if not body:
            raise ValidationFailed(detail="A JSON body is needed.")
        return body


class _AsGathered:
    """In the place of Litestar's check of the arguments: they are checked as they are gathered."""

    @staticmethod
    def parse_values_from_connection_kwargs(connection: Any, kwargs: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG004 - Litestar's
        return kwargs


def _idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"idempotency-key":
            if not _KEY.fullmatch(value):
                message = f"Expected 1 to {KEY_LENGTH_MAX} printable ASCII characters."
                raise ValidationFailed(FieldError(field="Idempotency-Key", message=message))
            return value.decode("ascii")
    return None
