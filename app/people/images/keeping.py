"""Profile images as they are kept: clean files under random names."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from uuid import UUID

from actors.refusals import Refusal
from app.limits.threads import Threads
from app.people.images.child import ImagesUnavailable, Picture, decoded
from app.people.images.turns import Turns

log = logging.getLogger(__name__)

BYTES_MAX = 5 * 1024 * 1024

_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class ImageTooLarge(Refusal):
    status = 413
    code = "content_too_large"
    title = "The image is too large."
    detail = "A profile image has at most 5 MiB."


class Images:
    """Reads uploads, keeps images in `folder` and tells their URL, which is relative where there is no `public_url`."""

    def __init__(self, folder: Path, *, public_url: str = "") -> None:
        self._folder = folder
        self._public_url = public_url.rstrip("/")
        # Two, so that one person's costly images leave room for everybody else's.
        self._turns = Turns(count=2, waiting_max=16, wait_seconds=10)
        self._threads = Threads("image", count=1, waiting_max=16)

    def url(self, name: str) -> str:
        """Where the image is served."""
        return f"{self._public_url}/media/{name}"

    async def read(self, content: bytes, *, user_id: UUID) -> Picture:
        """
        The picture in an upload of that person's.

        Raises:
            ImageTooLarge: beyond 5 MiB.
            ValidationFailed: not a PNG, JPEG or WebP image, of too many pixels, or too costly to decode.
            Overloaded: another image of theirs is being read, or too many people's are.
            ImagesUnavailable: no image can be read at present.
        """
        if len(content) > BYTES_MAX:
            raise ImageTooLarge()
        async with self._turns.turn(user_id):
            return await decoded(content)

    async def keep(self, picture: Picture) -> str:
        """
        Store a picture and return its file name.

        Raises:
            Overloaded: too many are waiting for the disk.
            ImagesUnavailable: the folder is full, or can't be written to.
        """
        try:
            return await self._threads.run(_store, self._folder, picture)
        except OSError as error:  # elsewhere that is a lost database
            log.error("can't keep an image in %s: %s", self._folder, error)  # noqa: TRY400
            raise ImagesUnavailable() from None

    async def remove(self, name: str) -> None:
        """Delete a file that no row names any more; one that can't be deleted is left behind, harmless."""
        with suppress(OSError, Refusal):
            await self._threads.run((self._folder / name).unlink, missing_ok=True)

    def close(self) -> None:
        """Stop the thread."""
        self._threads.close()


def _store(folder: Path, picture: Picture) -> str:
    name = f"{token_hex(16)}.{_SUFFIXES[picture.form]}"
    folder.mkdir(parents=True, exist_ok=True)
    # Nobody knows the name before the row that names it is committed, and by then the bytes are on the disk.
    with (folder / name).open("xb") as file:
        file.write(picture.content)
        file.flush()
        os.fsync(file.fileno())
    return name
