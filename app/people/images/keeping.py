"""Profile images as they are kept: clean files under random names."""

import asyncio
import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import monotonic
from uuid import UUID

from actors.engine.seldom import Seldom
from actors.refusals import Refusal
from app.limits.threads import Threads
from app.people.images.child import ImagesUnavailable, Picture, decoded
from app.people.images.turns import Turns

log = logging.getLogger(__name__)
_cannot_keep = Seldom(log, "can't keep an image in %s: %s")

BYTES_MAX = 5 * 1024 * 1024

# How often it is tried whether an image can be kept, how long that may take, and what is written.
TRIED_AGAIN_SECONDS = 5.0
TRIAL_SECONDS = 2.0
_TRIAL = bytes(64 * 1024)

_SENTENCES = {
    errno.ENOENT: "The folder is missing.",
    errno.ENOTDIR: "It is not a folder.",
    errno.ENOSPC: "The disk is full.",
    errno.EDQUOT: "The disk is full.",
    errno.EFBIG: "The disk is full.",
    errno.EROFS: "The folder is read-only.",
    errno.EACCES: "The folder is not ours to write to.",
}

_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class ImageTooLarge(Refusal):
    status = 413
    code = "content_too_large"
    title = "The image is too large."
    detail = "A profile image has at most 5 MiB."


class StorageUnavailable(ImagesUnavailable):
    """The folder is full or missing, or can't be written to."""

    detail = "The storage of profile images is full or can't be reached. Nothing has happened. Try again later."


class Images:
    """Reads uploads, keeps images in `folder` and tells their URL, which is relative where there is no `public_url`."""

    def __init__(self, folder: Path, *, public_url: str = "") -> None:
        self._folder = folder
        self._public_url = public_url.rstrip("/")
        # Two, so that one person's costly images leave room for everybody else's.
        self._turns = Turns(count=2, waiting_max=16, wait_seconds=10)
        self._threads = Threads("image", count=1, waiting_max=16)
        self._tried_at = -TRIED_AGAIN_SECONDS
        self._trouble: str | None = None

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
            StorageUnavailable: the folder is full or missing, or can't be written to.
        """
        try:
            return await self._threads.run(_store, self._folder, picture)
        except OSError as error:  # elsewhere that is a lost database
            _cannot_keep.warn(self._folder, error.strerror)
            raise StorageUnavailable() from None

    async def remove(self, name: str) -> None:
        """Delete a file that no row names any more; one that can't be deleted is left behind, harmless."""
        with suppress(OSError, Refusal):
            await self._threads.run((self._folder / name).unlink, missing_ok=True)

    async def open(self) -> None:
        """Make the folder if need be. Where images can't be kept in it that is logged, and everything else serves."""
        with suppress(OSError):  # the trial tells
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        if found := await self.trouble():
            log.warning("WALLET_MEDIA_FOLDER, %s, can't keep profile images. %s", self._folder, found)

    async def trouble(self) -> str | None:
        """Why no image can be kept now, as a sentence; None if one can be. Tried out every few seconds at most."""
        if monotonic() >= self._tried_at + TRIED_AGAIN_SECONDS:
            self._tried_at = monotonic()
            try:
                # In the thread that would keep an image: where a network's folder hangs, that thread hangs.
                async with asyncio.timeout(TRIAL_SECONDS):
                    await self._threads.run(_try_out, self._folder)
            except TimeoutError:
                self._trouble = "The folder does not answer."
            except OSError as error:
                self._trouble = _SENTENCES.get(error.errno or 0, "The folder can't be written to.")
            except Refusal:
                pass  # it is busy keeping images
            else:
                self._trouble = None
        return self._trouble

    def close(self) -> None:
        """Stop the thread."""
        self._threads.close()


def _store(folder: Path, picture: Picture) -> str:
    name = f"{token_hex(16)}.{_SUFFIXES[picture.form]}"
    # Nobody knows the name before the row that names it is committed, and by then the bytes are on the disk.
    with _or_nothing(folder / name), (folder / name).open("xb") as file:
        file.write(picture.content)
        file.flush()
        os.fsync(file.fileno())
    return name


def _try_out(folder: Path) -> None:
    trial = folder / ".trial"
    with _or_nothing(trial):
        trial.write_bytes(_TRIAL)
        trial.unlink(missing_ok=True)  # another process may have been as quick


@contextmanager
def _or_nothing(path: Path) -> Iterator[None]:
    """Leave no half of a file behind: it would only fill the disk further."""
    try:
        yield
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
