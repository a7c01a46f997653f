"""Profile images: made, uploaded, found on the disk."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from app.people.images.child import PROGRAM
from app.settings import Settings
from tests.helpers.processes import children_of
from tests.helpers.users import Member


def picture(form: str = "PNG", size: tuple[int, int] = (40, 20), **options: Any) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, "teal").save(out, form, **options)
    return out.getvalue()


async def upload(client: httpx.AsyncClient, person: Member, content: bytes, **names: str) -> httpx.Response:
    files = {"profile_image": ("me.png", content, "image/png")}
    return await client.patch("/users/update/", data=names, files=files, headers=person.headers)


def kept(settings: Settings) -> list[Path]:
    folder = Path(settings.media_folder)
    return sorted(folder.iterdir()) if folder.exists() else []


def costly_jpeg(scans: int = 100_000) -> bytes:
    """
    A progressive JPEG of 4 megapixels: 2 MB, and more than a minute of CPU time.

    Each scan says in 19 bytes that no coefficient of any block changes, and the decoder visits every block to see to it
    (LJT-01-004, "Two Issues with the JPEG Standard", of libjpeg-turbo's authors).
    """
    side, zero = 2048, bytes([1, *[0] * 15])  # a Huffman table of one code, a single 0
    blocks = (side // 8) ** 2
    head = [
        (0xDB, bytes([0]) + b"\1" * 64),
        (0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])),
        (0xC4, bytes([0x00]) + zero + bytes([0x00])),
        (0xC4, bytes([0x10]) + zero + bytes([0xE0])),  # the code means: the next 2^14 + 14 bits' worth of blocks are 0
    ]
    nothing = "".join("0" + f"{2**14 - 2:014b}" for _ in range(0, blocks, 2**15 - 2))
    nothing += "1" * (-len(nothing) % 8)
    bits = int(nothing, 2).to_bytes(len(nothing) // 8).replace(b"\xff", b"\xff\0")
    start = _segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(blocks // 8)
    more = [_segment(0xDA, bytes([1, 1, 0, place, place, 0])) + bits for place in range(1, 64)]
    body = b"".join(more) * (scans // 63 + 1)
    return b"\xff\xd8" + b"".join(_segment(*each) for each in head) + start + body + b"\xff\xd9"


def _segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2) + content


def decoders(pid: int) -> set[int]:
    """The processes, started by that one, that decode an image."""
    return {child for child, command in children_of(pid).items() if str(PROGRAM) in command}


def gone(pids: set[int]) -> bool:
    """Whether none of these processes is left, not even one that nobody has waited for."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)
