"""Profile images: decoded, turned upright, stripped of everything but pixels, and kept as files under random names."""

import os
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from secrets import token_hex

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import File
from PIL import Image, ImageOps

from actors.refusals import FieldError, Refusal
from app.http.problems import ValidationFailed
from app.limits.threads import Threads
from db.tables import IMAGE_NAME

BYTES_MAX = 5 * 1024 * 1024
SIDE_MAX = 12_000
PIXELS_MAX = 40_000_000  # 160 MB decoded, one at a time; a phone's camera stays below it
KEPT_SIDE_MAX = 2048

_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


class ImageTooLarge(Refusal):
    status = 413
    code = "content_too_large"
    title = "The image is too large."
    detail = "A profile image has at most 5 MiB."


class Images:
    """Keeps images in `folder` and tells their URL, which is relative where there is no `public_url`."""

    def __init__(self, folder: Path, *, public_url: str = "") -> None:
        self._folder = folder
        self._public_url = public_url.rstrip("/")
        # One at a time, so that memory holds one decoded image; the next few wait.
        self._threads = Threads("image", count=1, waiting_max=16)

    def url(self, name: str) -> str:
        """Where the image is served."""
        return f"{self._public_url}/media/{name}"

    async def keep(self, content: bytes) -> str:
        """
        Store an uploaded image and return its file name.

        Raises:
            ImageTooLarge: beyond 5 MiB.
            ValidationFailed: not a PNG, JPEG or WebP image that can be decoded, or of too many pixels.
            Overloaded: too many images are waiting.
        """
        if len(content) > BYTES_MAX:
            raise ImageTooLarge()
        return await self._threads.run(_store, self._folder, content)

    async def remove(self, name: str) -> None:
        """Delete a file that no row names any more; one that can't be deleted is left behind, harmless."""
        with suppress(OSError, Refusal):
            await self._threads.run((self._folder / name).unlink, missing_ok=True)

    def close(self) -> None:
        """Stop the thread."""
        self._threads.close()


def media_route(folder: Path) -> HTTPRouteHandler:
    """`GET /media/{name}`: the kept images. A name never comes back with another content, so caches keep them."""

    @get(
        "/media/{name:str}",
        include_in_schema=False,
        response_headers={
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
        },
    )
    async def media(name: FromPath[str]) -> File:
        """One image."""
        if not IMAGE_NAME.fullmatch(name) or not (path := folder / name).is_file():
            raise NotFoundException("There is no such image.")
        return File(path, media_type=_MEDIA_TYPES[path.suffix], content_disposition_type="inline", filename=name)

    return media


def _store(folder: Path, content: bytes) -> str:
    form, clean = _reencode(content)
    name = f"{token_hex(16)}.{_FORMATS[form]}"
    folder.mkdir(parents=True, exist_ok=True)
    # Nobody knows the name before the row that names it is committed, and by then the bytes are on the disk.
    with (folder / name).open("xb") as file:
        file.write(clean)
        file.flush()
        os.fsync(file.fileno())
    return name


def _reencode(content: bytes) -> tuple[str, bytes]:
    """The format and the bytes of the same picture: upright, its first frame, at most 2048 pixels a side."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which is dropped anyway
            with Image.open(BytesIO(content), formats=tuple(_FORMATS)) as image:
                # A camera's JPEG with a second picture in it, as of another lens, is an MPO: its first one is kept.
                form = "JPEG" if image.format == "MPO" else str(image.format)
                # Known from the header: nothing has been decoded yet.
                if max(image.size) > SIDE_MAX or image.width * image.height > PIXELS_MAX:
                    raise _not_an_image(f"Expected at most {PIXELS_MAX // 1_000_000} megapixels.")
                return form, _encode(form, _pixels(image))
    except ValidationFailed:
        raise
    # Broken images make decoders raise nearly everything; whatever it is, the image is to blame.
    except Exception:  # noqa: BLE001
        raise _not_an_image("Expected a PNG, JPEG or WebP image; this one can't be read.") from None


def _pixels(image: Image.Image) -> Image.Image:
    """The picture in a fresh image, to which no metadata clings."""
    image.draft("RGB", (KEPT_SIDE_MAX, KEPT_SIDE_MAX))  # lets JPEG skip detail that is thrown away below
    kept = image.convert("RGBA" if image.has_transparency_data else "RGB")
    kept.thumbnail((KEPT_SIDE_MAX, KEPT_SIDE_MAX))
    with suppress(Exception):  # EXIF that is nonsense says nothing: it is no reason to refuse the picture
        ImageOps.exif_transpose(kept, in_place=True)
    fresh = Image.new(kept.mode, kept.size)
    fresh.paste(kept)
    return fresh


def _encode(form: str, image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, format=form, **({} if form == "PNG" else {"quality": 88}))
    return out.getvalue()


def _not_an_image(message: str) -> ValidationFailed:
    return ValidationFailed(FieldError(field="profile_image", message=message))
