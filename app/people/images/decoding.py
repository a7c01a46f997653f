"""
The program that decodes an uploaded image: the upload on standard input, the clean picture on standard output.

Decoders are written in C, and strangers choose what they are fed. So they run in a process that knows no secrets, is
good for one image, and may use only so much of the machine: `child.py` starts it. It imports nothing of the
application, which would take longer to start than most images take to decode.

The output is the name of the format, a line feed, and the file. An image that is refused has no output; the exit code
says why.
"""

import os
import resource
import sys
import warnings
from contextlib import suppress
from io import BytesIO

from PIL import Image, ImageOps, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin

# Imported here rather than when the first image is opened, which would import every other format too.
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
FORMATS = ("PNG", "JPEG", "WEBP")

SIDE_MAX = 12_000
KEPT_SIDE_MAX = 2048
# A JPEG is decoded at the size at which it is kept. The others have to be decoded whole.
JPEG_PIXELS_MAX = 52_000_000  # what cameras with "50 megapixels" make
PIXELS_MAX = 25_000_000

# Faster than their defaults by half, and hardly larger.
_OPTIONS = {"PNG": {"compress_level": 3}, "JPEG": {"quality": 88}, "WEBP": {"quality": 88, "method": 1}}

UNREADABLE, TOO_MANY_PIXELS, TOO_COSTLY = 65, 66, 67  # exit codes that Python and shells have no use for


class TooManyPixels(Exception):
    """Known from the image's header; nothing has been decoded."""


class Unreadable(Exception):
    """Not a PNG, JPEG or WebP image, or a broken one."""


def reencoded(content: bytes) -> tuple[str, bytes]:
    """
    The format and the file of the same picture: upright, its first frame, at most 2048 pixels a side.

    Raises:
        Unreadable, TooManyPixels: it is no such image, or too large a one.
        MemoryError: it needs more than there is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which is dropped anyway
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                # A camera's JPEG with a second picture in it, as of another lens, is an MPO: its first one is kept.
                form = "JPEG" if image.format == "MPO" else str(image.format)
                pixels_max = JPEG_PIXELS_MAX if form == "JPEG" else PIXELS_MAX
                if max(image.size) > SIDE_MAX or image.width * image.height > pixels_max:
                    raise TooManyPixels
                return form, _encoded(form, _without_metadata(_upright(_reduced(image))))
    except (TooManyPixels, MemoryError):
        raise
    # Broken images make decoders raise nearly everything; whatever it is, the image is to blame.
    except Exception:  # noqa: BLE001
        raise Unreadable from None


def _reduced(image: Image.Image) -> Image.Image:
    """The picture at the size at which it is kept, in the colours of a screen."""
    scale = min(1, KEPT_SIDE_MAX / max(image.size))
    # Lets a JPEG skip detail that is thrown away below: it never takes up the memory of all its pixels.
    image.draft("RGB", (max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    image.load()
    mode = "RGBA" if image.has_transparency_data else "RGB"
    kept = image if image.mode == mode else image.convert(mode)
    kept.thumbnail((KEPT_SIDE_MAX, KEPT_SIDE_MAX))
    return kept


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # EXIF that is nonsense says nothing: it is no reason to refuse the picture
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _without_metadata(image: Image.Image) -> Image.Image:
    """The picture in a fresh image, to which nothing clings."""
    fresh = Image.new(image.mode, image.size)
    fresh.paste(image)
    return fresh


def _encoded(form: str, image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, format=form, **_OPTIONS[form])
    return out.getvalue()


def _limit(*, cpu_seconds: int, memory_bytes: int) -> None:
    """Let the kernel end this process when it has used up what one image may cost."""
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_CORE: 0,  # nobody's picture is left behind in a dump
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 16,  # for modules that are imported late
    }
    if sys.platform == "linux":  # macOS refuses it
        limits[resource.RLIMIT_AS] = memory_bytes
    for what, most in limits.items():
        _, hard = resource.getrlimit(what)  # an operator's lower one can't be raised
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))
    os.nice(5)  # payments go first


def main(cpu_seconds: str, memory_bytes: str) -> int:
    """Decode standard input; the exit code."""
    # uvloop lets a child inherit what its parent has inherited: the socket that the server listens at.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _limit(cpu_seconds=int(cpu_seconds), memory_bytes=int(memory_bytes))
    content = sys.stdin.buffer.read()
    try:
        form, clean = reencoded(content)
    except Unreadable:
        return UNREADABLE
    except TooManyPixels:
        return TOO_MANY_PIXELS
    except MemoryError:
        return TOO_COSTLY
    sys.stdout.buffer.write(form.encode() + b"\n" + clean)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    # Not sys.exit: what Python does at its end needs time, and may be what a decoder has broken.
    os._exit(main(*sys.argv[1:]))
