"""`GET /media/{name}`: the kept images."""

import asyncio
import errno
from pathlib import Path

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import File

from app.people.images.keeping import StorageUnavailable
from db.tables import IMAGE_NAME

_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def media_route(folder: Path) -> HTTPRouteHandler:
    """Serves the images in `folder`. A name never comes back with another content, so caches keep them."""

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
        path = folder / name
        if not IMAGE_NAME.fullmatch(name) or not await asyncio.to_thread(_is_there, path):
            raise NotFoundException("There is no such image.")
        return File(path, media_type=_MEDIA_TYPES[path.suffix], content_disposition_type="inline", filename=name)

    return media


def _is_there(path: Path) -> bool:
    """Raises `StorageUnavailable` where that can't be told, or the file can't be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return False
        raise StorageUnavailable() from None
    return True
