"""Files that are two things at once, names that lead elsewhere, and forms that were made to hurt."""

import zlib
from io import BytesIO
from itertools import product
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from PIL import Image

from app.settings import Settings
from tests.helpers.users import Member

SCRIPT = b"<html><script>alert(document.domain)</script></html>"


def picture(form: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (40, 20), "teal").save(out, form)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def archive() -> bytes:
    out = BytesIO()
    with ZipFile(out, "w") as file:
        file.writestr("evil.js", "alert(1)")
    return out.getvalue()


def png_bomb(side: int) -> bytes:
    """A head that says how large it is, and a few bytes in which there is nothing like it."""
    head = side.to_bytes(4) * 2 + b"\x08\x06\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000))
        + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A small picture with a comment that unpacks to 64 MiB."""
    png = picture("PNG")
    return png[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 64 * 1024 * 1024)) + png[33:]


def webp_bomb() -> bytes:
    size = (16_383).to_bytes(2, "little")
    frame = b"\x30\x01\x00\x9d\x01\x2a" + size + size + b"\0" * 40
    return b"RIFF" + (len(frame) + 12).to_bytes(4, "little") + b"WEBPVP8 " + len(frame).to_bytes(4, "little") + frame


async def upload_as(
    client: httpx.AsyncClient, person: Member, content: bytes, name: str = "me.png", media_type: str = "image/png"
) -> httpx.Response:
    files = {"profile_image": (name, content, media_type)}
    return await client.patch("/users/update/", files=files, headers=person.headers)


def everything_kept(settings: Settings) -> list[Path]:
    folder = Path(settings.media_folder)
    return sorted(folder.rglob("*")) if folder.exists() else []


async def test_of_a_file_that_is_two_things_the_picture_is_kept(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member
) -> None:
    for form, other in product(
        ["PNG", "JPEG", "WEBP"], [SCRIPT, archive(), b"<?php system($_GET[0]); ?>", b"%PDF-1.7 /JS (app.alert(1))"]
    ):
        with subtests.test(msg=f"{form!r:.60} {other!r:.60}"):
            answer = await upload_as(client, ann, picture(form) + other)
            assert answer.status_code == 200, answer.text
            image = await client.get(answer.json()["profile_image"])
            assert image.headers["Content-Type"] == f"image/{form.lower()}"
            assert image.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in image.headers["Content-Security-Policy"]
            assert other not in image.content
            for trace in (b"script", b"PK\x03\x04", b"<?php", b"%PDF", b"evil"):
                assert trace not in image.content


async def test_a_picture_that_would_be_huge_is_refused(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member, settings: Settings
) -> None:
    for bomb in [png_bomb(12_001), png_bomb(2**31 - 1), png_bomb(6_400), webp_bomb()]:
        with subtests.test(msg=f"{bomb!r:.60}"):
            answer = await upload_as(client, ann, bomb)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "profile_image")
            assert everything_kept(settings) == []


async def test_a_comment_that_unpacks_to_more_than_the_picture_is_not_kept(
    client: httpx.AsyncClient, ann: Member
) -> None:
    answer = await upload_as(client, ann, text_bomb())
    if answer.status_code == 200:
        assert len((await client.get(answer.json()["profile_image"])).content) < 5_000
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_what_calls_itself_a_picture_is_looked_at(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member, settings: Settings
) -> None:
    for content, media_type in product(
        [
            b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
            SCRIPT,
            archive(),
            *(picture(form) for form in ("GIF", "TIFF", "BMP", "ICO", "PPM", "PDF", "EPS")),
        ],
        ["image/png", "image/svg+xml", "text/html"],
    ):
        with subtests.test(msg=f"{content!r:.60} {media_type!r:.60}"):
            assert (await upload_as(client, ann, content, media_type=media_type)).status_code == 400
            assert everything_kept(settings) == []


async def test_the_name_of_a_file_decides_nothing(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member, settings: Settings
) -> None:
    for name in [
        "../../../etc/cron.d/x.png",
        "/etc/passwd",
        "..\\..\\x.png",
        "x.php",
        "x.png/../../y",
        "%00.html",
        "a" * 200,
    ]:
        with subtests.test(msg=f"{name!r:.60}"):
            answer = await upload_as(client, ann, picture("PNG"), name=name, media_type="text/html")
            assert answer.status_code == 200, answer.text
            (file,) = everything_kept(settings)
            assert file.parent == Path(settings.media_folder)
            assert len(file.name) == 36
            assert file.suffix == ".png"
            assert answer.json()["profile_image"].endswith(file.name)


def part(name: str, content: bytes = b"x", more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n%b\r\n' % (name.encode(), more, content)


async def test_forms_that_were_made_to_hurt(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member, settings: Settings
) -> None:
    for body, boundary in product(
        [
            b"".join(part(f"n{number}", b"") for number in range(5000)),
            b"".join(part("first_name") for _ in range(20_000)),
            part("first_name", more=b"X-Long: " + b"x" * 1_000_000 + b"\r\n"),
            part("first_name", more=b"".join(b"X-%d: y\r\n" % number for number in range(20_000))),
            b'--b\r\nContent-Disposition: form-data; name="' + b"n" * 1_000_000 + b'"\r\n\r\nx\r\n',
            b"-" * 2_000_000,
            b"\r\n--b" * 400_000,
            b"--b\r\n" * 200_000,
        ],
        ["b", "b" * 60_000, ""],
    ):
        with subtests.test(msg=f"{body!r:.60} {boundary!r:.60}"):
            before = (await client.get("/users/", headers=ann.headers)).json()
            headers = ann.headers | {"content-type": f"multipart/form-data; boundary={boundary}"}
            answer = await client.patch("/users/update/", content=body + b"--b--\r\n", headers=headers)
            assert answer.status_code in (200, 400, 413, 415), answer.text
            after = (await client.get("/users/", headers=ann.headers)).json()
            assert after == before | {"first_name": after["first_name"]}
            assert len(after["first_name"]) <= 1
            assert everything_kept(settings) == []
