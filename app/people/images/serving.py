"""`GET /media/{name}`: the kept images."""

from pathlib import Path

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import File

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
        if not IMAGE_NAME.fullmatch(name) or not (path := folder / name).is_file():
            raise NotFoundException("There is no such image.")
        return File(path, media_type=_MEDIA_TYPES[path.suffix], content_disposition_type="inline", filename=name)

    return media
