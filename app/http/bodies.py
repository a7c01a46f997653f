"""JSON bodies: decoded once, straight from the bytes, into msgspec structs."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec.inspect import type_info
from msgspec.structs import fields

from actors.money import InvalidAmount, amount_from_json
from actors.refusals import FieldError
from app.http.explanations import explained
from app.http.problems import UnsupportedMediaType, ValidationFailed
from app.http.shown_texts import Look, look_through

T = TypeVar("T")

_DECODERS: dict[type, tuple[Any, Look | None]] = {}  # one for each body struct, and what looks at its texts


class JSONBodies(AbstractDTO[Any]):
    """
    Decodes the body of every handler that takes `data`.

    Litestar's own way makes Python objects of the JSON and structs of those; here msgspec does it in one pass, and
    sees amounts as they were written: `1e3` and `200.001` are gone once a number is a float.
    """

    model_type = object

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        """Nothing to prepare but the decoder, which `_decoder` remembers."""

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:
        """Bodies only: answers are encoded as they are."""
        return False

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:
        """The struct's own schema."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Any:
        """Not used: the struct is the transfer model."""
        return iter(list[DTOFieldDefinition]())

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Not used: msgspec decodes nested structs itself."""
        return False

    def decode_bytes(self, value: bytes) -> Any:
        """
        The body as the struct that the handler asks for.

        Raises:
            UnsupportedMediaType: the request says it carries something else than JSON.
            ValidationFailed: the body is not JSON, or not what was asked for.
        """
        require_json(self.asgi_connection.scope["headers"])
        return decode(value, self.asgi_connection.route_handler.parsed_data_field.annotation)


def require_json(headers: Any) -> None:
    """
    Accept `application/json`, with any charset parameter, and a body that names no type at all.

    Raises:
        UnsupportedMediaType: anything else.
    """
    for name, value in headers:
        if name == b"content-type" and value.split(b";", 1)[0].strip().lower() != b"application/json":
            raise UnsupportedMediaType()


def decode(body: bytes, into: type[T]) -> T:
    """
    JSON bytes as the struct `into`.

    Raises:
        ValidationFailed: naming the field, where it is one.
    """
    decoder, look = _decoder(into)
    try:
        decoded: T = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ValidationFailed(field_error(error, into=into)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValidationFailed(detail="The body is not valid JSON.") from None
    # Any other body is printable ASCII through and through: it has neither escapes nor DEL.
    if look and (b"\\" in body or b"\x7f" in body or not body.isascii()) and (faults := look(decoded)):
        errors = [FieldError(field=place.removeprefix("."), message=fault) for place, fault in faults]
        raise ValidationFailed(*errors, detail=first_of(errors))
    return decoded


def first_of(errors: Sequence[FieldError]) -> str:
    """The first of several errors, and how many others there are: for a `detail` that people can still read."""
    others = f" So are {len(errors) - 1} more." if len(errors) > 1 else ""
    return f"{errors[0].field}: {errors[0].message}{others}"


def field_error(error: msgspec.ValidationError, field: str = "", into: Any = None) -> FieldError:
    """What msgspec found; `field` where it was given one value and can't name it, `into` the struct that was wanted."""
    wanted = {each.encode_name: each.type for each in fields(into)} if into else {}
    field, message = explained(str(error), field, wanted)
    return FieldError(field=field, message=message)


def _decoder(into: type[T]) -> "tuple[msgspec.json.Decoder[T], Look | None]":
    made = _DECODERS.get(into)
    if made is None:
        made = _DECODERS[into] = (msgspec.json.Decoder(into), look_through(type_info(into)))
    return made


def amount_field(raw: msgspec.Raw) -> Decimal:
    """
    The amount in a body's raw `amount`, as a `Decimal` with two decimals.

    Raises:
        ValidationFailed: it is not an amount.
    """
    try:
        return amount_from_json(bytes(raw))
    except InvalidAmount as error:
        raise ValidationFailed(FieldError(field="amount", message=str(error))) from None


class AmountSchema(OpenAPISchemaPlugin):
    """Describes amounts in the OpenAPI document: the raw fields of bodies, and decimals of answers."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """`msgspec.Raw` and `Decimal` only."""
        return field_definition.annotation in (msgspec.Raw, Decimal)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """A JSON number or string on the way in, a string on the way out."""
        if field_definition.annotation is Decimal:
            return Schema(type=OpenAPIType.STRING, format="decimal")  # type: ignore[arg-type]  # JSON Schema takes any
        return Schema(
            one_of=[
                Schema(type=OpenAPIType.STRING, pattern=r"^(?!0(\.0{1,2})?$)(0|[1-9][0-9]{0,11})(\.[0-9]{1,2})?$"),
                Schema(type=OpenAPIType.NUMBER, exclusive_minimum=0, maximum=999_999_999_999.99, multiple_of=0.01),
            ],
            description="Positive, at most two decimals, at most 999 999 999 999.99.",
            examples=["200.00"],
        )
