"""Runs the program that decodes an image, and ends it: at its deadline, or when nobody waits for it any more."""

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from signal import Signals

import PIL
from msgspec import Struct

from actors.refusals import FieldError, Overloaded, Unavailable
from app.http.problems import ValidationFailed
from app.people.images import decoding

log = logging.getLogger(__name__)

# The costliest images within the bounds take 2.5 seconds and 480 MiB: docs/decisions/0023-images-in-child-processes.md
CPU_SECONDS = 6
MEMORY_BYTES = 768 * 1024 * 1024
# Longer than it takes on a machine that has other things to do.
WALL_SECONDS = 30.0
KEPT_BYTES_MAX = 24 * 1024 * 1024  # 2048 x 2048 pixels without any compression, and then some
PROGRAM = Path(decoding.__file__)

_TOO_COSTLY = "This image takes too long to decode: send a smaller one."
_UNREADABLE = "Expected a PNG, JPEG or WebP image; this one can't be read."
_TOO_MANY_PIXELS = (
    f"Expected at most {decoding.SIDE_MAX} pixels a side, and 50 megapixels in a JPEG"
    f" or {decoding.PIXELS_MAX // 1_000_000} in a PNG or WebP."
)
# How a process ends that the image has brought to an end. SIGKILL is the kernel's, when time or memory runs out.
_FAULTS_OF_IMAGE = {
    decoding.UNREADABLE: _UNREADABLE,
    decoding.TOO_MANY_PIXELS: _TOO_MANY_PIXELS,
    decoding.TOO_COSTLY: _TOO_COSTLY,
    -Signals.SIGXCPU: _TOO_COSTLY,
    -Signals.SIGKILL: _TOO_COSTLY,
    **dict.fromkeys([-Signals.SIGSEGV, -Signals.SIGBUS, -Signals.SIGABRT], _UNREADABLE),
    **dict.fromkeys([-Signals.SIGILL, -Signals.SIGFPE], _UNREADABLE),
}


class Picture(Struct, frozen=True):
    """A clean image, as it will be kept: one of `decoding.FORMATS`, and the file."""

    form: str
    content: bytes


class ImagesUnavailable(Unavailable):
    """It is not the image's fault."""

    title = "Profile images can't be changed at present."
    detail = "Nothing has happened. Try again later."
    retry_after_seconds = 30


async def decoded(content: bytes) -> Picture:
    """
    The picture in an upload, decoded by a process of its own, which is gone when this returns or is cancelled.

    Raises:
        ValidationFailed: it can't be decoded, or would take more time or memory than an image may.
        Overloaded: the machine has too much else to do.
        ImagesUnavailable: the process can't be started, or does not work.
    """
    process = await _start()
    try:
        async with asyncio.timeout(WALL_SECONDS):
            output = await _exchange(process, content)
            code = await process.wait()
    except TimeoutError:  # it has not used up its seconds of CPU time
        log.warning("an image was not decoded within %d s: this machine is too busy", WALL_SECONDS)
        raise Overloaded() from None
    finally:
        await _end(process)
    form, _, clean = output.partition(b"\n")
    if code in _FAULTS_OF_IMAGE:
        if code < 0:
            log.info("decoding an image was ended by %s", Signals(-code).name)
        raise ValidationFailed(FieldError(field="profile_image", message=_FAULTS_OF_IMAGE[code]))
    if code or form.decode("ascii", "replace") not in decoding.FORMATS:
        log.error("the program that decodes images failed with exit code %d: %s", code, " ".join(_command()))
        raise ImagesUnavailable()
    return Picture(form.decode(), clean)


def _command() -> tuple[str, ...]:
    # -S: all it needs is Pillow, wherever this process has found it. -P: and nothing of ours.
    return sys.executable, "-S", "-s", "-P", str(PROGRAM), str(CPU_SECONDS), str(MEMORY_BYTES)


async def _start() -> asyncio.subprocess.Process:
    # This process's environment holds secrets. Some Pythons don't start without the second one.
    environ = {"PYTHONPATH": str(Path(PIL.__file__).parents[1])}
    if libraries := os.environ.get("LD_LIBRARY_PATH"):
        environ["LD_LIBRARY_PATH"] = libraries
    try:
        return await asyncio.create_subprocess_exec(
            *_command(),
            env=environ,
            cwd="/",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # whatever a stranger's picture makes it say
            start_new_session=True,  # a Ctrl-C in the terminal is for the server alone, which answers what was asked
        )
    except OSError as error:  # no memory, no process or no file descriptor left
        log.warning("can't start a process to decode an image: %s", error)
        raise ImagesUnavailable() from None


async def _exchange(process: asyncio.subprocess.Process, content: bytes) -> bytes:
    """All that it writes; it is ended if that is too much. It reads everything before it writes anything."""
    assert process.stdin
    assert process.stdout
    with suppress(ConnectionError):  # it has ended early: its exit code tells more
        process.stdin.write(content)
        await process.stdin.drain()
        process.stdin.close()
    try:
        await process.stdout.readexactly(KEPT_BYTES_MAX + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    process.kill()
    await process.stdout.read()  # what is left in the pipe: before that, nobody hears of its end
    return b""


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.communicate()  # what is left in the pipe is read as well, or the pipe would stay open
