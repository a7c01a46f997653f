"""The body of `PATCH /users/update/`, which comes as JSON or as a form with a file."""

import logging
import tempfile
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict, UploadFile
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from msgspec import UNSET, Meta, Struct, UnsetType

from actors.engine.seldom import Seldom
from actors.refusals import FieldError
from app.http.bodies import decode
from app.http.connected import while_connected
from app.http.fields import PlainText
from app.http.problems import ContentTooLarge, UnsupportedMediaType, ValidationFailed
from app.limits.bodies import ORDINARY_BYTES
from app.people.images.child import Picture
from app.people.images.keeping import BYTES_MAX, Images, ImageTooLarge, StorageUnavailable

_no_room = Seldom(logging.getLogger(__name__), "an upload can't be kept in %s: %s")

NAME_LENGTH_MAX = 150
# The file, the names and what multipart/form-data puts around them.
FORM_BYTES_MAX = BYTES_MAX + ORDINARY_BYTES

Name = Annotated[PlainText, Meta(max_length=NAME_LENGTH_MAX)]


class ProfileChanges(Struct, frozen=True, kw_only=True):
    """What is to be changed; unset stays as it is, and an image of None is removed."""

    first_name: str | UnsetType = UNSET
    last_name: str | UnsetType = UNSET
    image: Picture | UnsetType | None = UNSET


class UpdatePersonalInfo(Struct, frozen=True):
    """What is to change. Here the image can only be removed: a new one comes as a file."""

    first_name: Name | UnsetType = UNSET
    last_name: Name | UnsetType = UNSET
    profile_image: UnsetType | None = UNSET

    def changes(self, image: Picture | UnsetType = UNSET) -> ProfileChanges:
        """The names given, and the image: a new one, or none."""
        return ProfileChanges(
            first_name=self.first_name,
            last_name=self.last_name,
            image=self.profile_image if image is UNSET else image,
        )


async def profile_changes(request: Request[Any, Any, Any], images: Images) -> ProfileChanges:
    """
    What the request asks to change; a new image has been decoded.

    Raises:
        UnsupportedMediaType: it is neither JSON nor a form.
        ValidationFailed: it is one, and not valid.
        ContentTooLarge, ImageTooLarge: the JSON is beyond 64 KiB, the file beyond 5 MiB.
        Overloaded: there is no room for so large a form, or, as ImagesUnavailable, no image can be read now.
    """
    media_type = request.content_type[0]
    if media_type in ("", "application/json"):
        return _from_json(await _json(request)).changes()
    if media_type == "multipart/form-data":
        with request.app.state.large_bodies.room(request, bytes_max=FORM_BYTES_MAX):
            names, content = await _from_form(request)
        if content is UNSET:
            return names.changes()
        return names.changes(await while_connected(request, images.read(content, user_id=request.user.user_id)))
    raise UnsupportedMediaType("Send the body as application/json or multipart/form-data.")


async def _json(request: Request[Any, Any, Any]) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > ORDINARY_BYTES:  # two names need no more than any other JSON
            raise ContentTooLarge()
    return body


def _from_json(body: bytes) -> UpdatePersonalInfo:
    try:
        return decode(body, UpdatePersonalInfo)
    except ValidationFailed as refusal:
        if [error.field for error in refusal.errors] == ["profile_image"]:
            message = "Send an image as a file, in multipart/form-data. In JSON null removes it."
            raise ValidationFailed(FieldError(field="profile_image", message=message)) from None
        raise


async def _from_form(request: Request[Any, Any, Any]) -> tuple[UpdatePersonalInfo, bytes | UnsetType]:
    """What it says, and the uploaded file."""
    try:
        form = await request.form()
    # The client names each part's charset: it may not exist, or not fit the bytes.
    except (ValueError, LookupError):
        raise ValidationFailed(detail="The form can't be read.") from None
    except OSError as error:  # a file of more than a megabyte waits on the disk until it has all arrived
        _no_room.warn(tempfile.gettempdir(), error.strerror)
        raise StorageUnavailable() from None
    try:
        names = {name: _text(form, name) for name in ("first_name", "last_name") if name in form}
        return _convert(names), await _image(form)
    finally:
        await form.close()


def _convert(names: dict[str, str]) -> UpdatePersonalInfo:
    for name, text in names.items():
        try:
            text.encode()  # UTF-7 can smuggle in half a surrogate pair
        except UnicodeEncodeError:
            raise ValidationFailed(FieldError(field=name, message="Expected text.")) from None
    return decode(msgspec.json.encode(names), UpdatePersonalInfo)  # through the same door as JSON


def _text(form: FormMultiDict, name: str) -> str:
    values = form.getall(name)
    if len(values) != 1 or not isinstance(values[0], str):
        raise ValidationFailed(FieldError(field=name, message="Expected one text."))
    return values[0]


async def _image(form: FormMultiDict) -> bytes | UnsetType:
    """The file's bytes; a browser sends an empty text for a file that was not chosen."""
    values = form.getall("profile_image") if "profile_image" in form else []
    if values in ([], [""]):
        return UNSET
    if len(values) != 1 or not isinstance(values[0], UploadFile):
        raise ValidationFailed(FieldError(field="profile_image", message="Expected one file, sent with a file name."))
    content = await values[0].read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise ImageTooLarge()
    return content


_NAME_SCHEMA = Schema(type=OpenAPIType.STRING, max_length=NAME_LENGTH_MAX, examples=["Ann"])
_FILE_SCHEMA = Schema(
    type=OpenAPIType.STRING,
    format=OpenAPIFormat.BINARY,  # what generators of clients take for a file
    content_media_type="application/octet-stream",
    description="PNG, JPEG or WebP, at most 5 MiB and 25 megapixels, 50 in a JPEG.",
)
_REMOVAL_SCHEMA = Schema(type=OpenAPIType.NULL, description="Removes the image.")


@dataclass
class ProfileOperation(Operation):
    """Describes both forms of the body, which the handler takes apart by itself."""

    def __post_init__(self) -> None:
        """Add the request body."""
        names = {"first_name": _NAME_SCHEMA, "last_name": _NAME_SCHEMA}
        bodies = {
            "application/json": {**names, "profile_image": _REMOVAL_SCHEMA},
            "multipart/form-data": {**names, "profile_image": _FILE_SCHEMA},
        }
        self.request_body = RequestBody(
            required=True,
            content={
                media_type: OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT, properties=dict(properties)))
                for media_type, properties in bodies.items()
            },
        )
