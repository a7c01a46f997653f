"""How a request that moves money reaches its handler: its arguments are gathered in one step."""

import re
from collections.abc import Iterable
from typing import Any

from litestar import Request, Response
from litestar.enums import HttpMethod
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, ExceptionHandlersMap

from app.http.bodies import decode, require_json
from app.http.parameters import KEY_LENGTH_MAX
from app.http.problems import CLIENT_GONE, ContentTooLarge, FieldError, ValidationFailed
from app.limits.bodies import ORDINARY_BYTES

_KEY = re.compile(rb"[\x20-\x7e]{1,%d}" % KEY_LENGTH_MAX)


class PaymentHandler(HTTPRouteHandler):
    """
    A POST whose handler takes `request`, `id`, `data`, `idempotency_key` and what the application provides, as `bank`.

    The OpenAPI document is made of the handler's signature, as that of any other. But where the arguments come from is
    settled when the route is made, and not found out again for each request, which took a quarter of its time.
    """

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, http_method=HttpMethod.POST, **options)
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
        """What sends the handler's answer."""
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
        # Each of them is one object, from the application's start to its end.
        self._provided = {
            name: provide.dependency()
            for name, provide in handler.resolve_dependencies().items()
            if name in handler.parsed_fn_signature.parameters
        }

    async def to_kwargs(self, connection: Request[Any, Any, Any]) -> dict[str, Any]:
        """
        What the handler is called with.

        Raises:
            UnsupportedMediaType, ContentTooLarge, ValidationFailed: the headers or the body are not what is wanted.
            Overloaded: there is no room for so large a body.
        """
        scope = connection.scope
        headers = scope["headers"]
        require_json(headers)
        return {
            "request": connection,
            "id": scope["path_params"]["id"],
            "data": decode(await self._whole_body(connection), self._body_struct),
            "idempotency_key": _idempotency_key(headers),
            **self._provided,
        }

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
    def parse_values_from_connection_kwargs(connection: Any, kwargs: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG004
        """The same."""
        return kwargs


def _idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"idempotency-key":
            if not _KEY.fullmatch(value):
                message = f"Expected 1 to {KEY_LENGTH_MAX} printable ASCII characters."
                raise ValidationFailed(FieldError(field="Idempotency-Key", message=message))
            return value.decode("ascii")
    return None
