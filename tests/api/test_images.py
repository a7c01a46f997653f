"""Profile images: what goes in, what comes out, and what is left on the disk."""

import asyncio
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from app.people import profiles
from app.settings import Settings
from db.tables import User
from tests.helpers.images import kept, picture, upload
from tests.helpers.users import Member

MEBIBYTE = 1024 * 1024


async def test_an_image_is_served_back(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member, settings: Settings
) -> None:
    for form in ["PNG", "JPEG", "WEBP"]:
        with subtests.test(msg=f"{form!r:.60}"):
            answer = await upload(client, ann, picture(form), first_name="Ann")
            assert answer.status_code == 200, answer.text
            user = answer.json()
            assert user["first_name"] == "Ann"
            image = await client.get(user["profile_image"])
            assert (image.status_code, image.headers["content-type"]) == (200, f"image/{form.lower()}")
            assert image.headers["x-content-type-options"] == "nosniff"
            assert "immutable" in image.headers["cache-control"]
            opened = Image.open(BytesIO(image.content))
            assert (opened.format, opened.size) == (form, (40, 20))


async def test_an_image_is_upright_and_tells_nothing_else(client: httpx.AsyncClient, ann: Member) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010E] = "at home"
    content = picture("JPEG", exif=exif, comment=b"at home", icc_profile=b"at home" * 20)
    user = (await upload(client, ann, content)).json()
    image = await client.get(user["profile_image"])
    assert b"at home" not in image.content
    opened = Image.open(BytesIO(image.content))
    assert opened.size == (20, 40)
    assert not opened.getexif()


async def test_a_new_image_replaces_the_old_file(client: httpx.AsyncClient, ann: Member, settings: Settings) -> None:
    first = (await upload(client, ann, picture())).json()["profile_image"]
    second = (await upload(client, ann, picture("WEBP"))).json()["profile_image"]
    assert [path.name for path in kept(settings)] == [second.rsplit("/", 1)[1]]
    assert (await client.get(first)).status_code == 404
    answer = await client.patch("/users/update/", json={"profile_image": None}, headers=ann.headers)
    assert answer.json()["profile_image"] is None
    assert kept(settings) == []


async def test_two_uploads_at_once_leave_one_file(client: httpx.AsyncClient, ann: Member, settings: Settings) -> None:
    async def until_kept() -> None:
        while (answer := await upload(client, ann, picture())).status_code == 503:
            assert answer.headers["Retry-After"] == "1"

    await asyncio.gather(*(until_kept() for _ in range(4)))
    user = (await client.get("/users/", headers=ann.headers)).json()
    assert [path.name for path in kept(settings)] == [user["profile_image"].rsplit("/", 1)[1]]


async def test_a_failed_update_leaves_no_file(
    client: httpx.AsyncClient, ann: Member, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Any) -> list[Any]:
        raise ConnectionResetError

    monkeypatch.setattr(profiles, "wallets_of", fail)
    assert (await upload(client, ann, picture())).status_code == 503
    assert kept(settings) == []
    rows = await User.select(User.profile_image)
    assert rows == [{"profile_image": None}]


def gif() -> bytes:
    return picture("GIF")


def truncated() -> bytes:
    return picture("JPEG", size=(400, 400), quality=95)[:600]


def bomb() -> bytes:
    """A few kilobytes that would be 400 megapixels."""
    out = BytesIO()
    Image.new("1", (11_000, 11_000)).save(out, "PNG")
    return out.getvalue()


def wide() -> bytes:
    out = BytesIO()
    Image.new("1", (20_000, 1)).save(out, "PNG")
    return out.getvalue()


async def test_what_is_no_picture_is_refused(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member, settings: Settings
) -> None:
    for content in [b"x", b"\x89PNG\r\n\x1a\n" + b"\0" * 64, b"<svg onload='x'/>", gif(), truncated(), bomb(), wide()]:
        with subtests.test(msg=f"{content!r:.60}"):
            answer = await upload(client, ann, content)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "profile_image")
            assert kept(settings) == []


async def test_more_than_five_mebibytes_are_too_large(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member
) -> None:
    for size in [5 * MEBIBYTE + 1, 8 * MEBIBYTE]:
        with subtests.test(msg=f"{size!r:.60}"):
            answer = await upload(client, ann, b"\0" * size)
            assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")


async def test_five_mebibytes_are_not(client: httpx.AsyncClient, ann: Member) -> None:
    content = picture()
    # Decoders stop at the end of the picture, so anything may follow.
    answer = await upload(client, ann, content + b"\0" * (5 * MEBIBYTE - len(content)))
    assert answer.status_code == 200


async def test_other_media_types_are_refused(client: httpx.AsyncClient, ann: Member) -> None:
    for media_type in ("image/png", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        headers = ann.headers | {"content-type": media_type}
        answer = await client.patch("/users/update/", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


PART = b'--b\r\nContent-Disposition: form-data; name="first_name"\r\n'


async def test_broken_forms_are_refused(subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member) -> None:
    for body in [
        b"nonsense",
        PART + b"\r\n\xff\r\n--b--\r\n",
        PART + b"Content-Type: text/plain; charset=utf-7\r\n\r\n+2AA-\r\n--b--\r\n",
        PART + b"Content-Type: text/plain; charset=rot13\r\n\r\nabc\r\n--b--\r\n",
        PART + b"Content-Type: text/plain; charset=none-such\r\n\r\nabc\r\n--b--\r\n",
        PART + b"\r\na\x00b\r\n--b--\r\n",
        PART + b"\r\na\r\n" + PART + b"\r\nb\r\n--b--\r\n",
        PART[:-2] + b'; filename="x"\r\n\r\na\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="profile_image"\r\n\r\nme.png\r\n--b--\r\n',
        PART + b"\r\nno end",
    ]:
        with subtests.test(msg=f"{body!r:.60}"):
            headers = ann.headers | {"content-type": "multipart/form-data; boundary=b"}
            answer = await client.patch("/users/update/", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_a_file_that_was_not_chosen_changes_nothing(client: httpx.AsyncClient, ann: Member) -> None:
    before = (await upload(client, ann, picture())).json()
    body = b'--b\r\nContent-Disposition: form-data; name="profile_image"; filename=""\r\n\r\n\r\n--b--\r\n'
    headers = ann.headers | {"content-type": "multipart/form-data; boundary=b"}
    answer = await client.patch("/users/update/", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, before)


async def test_nothing_but_images_is_served(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    for name in ["..%2f..%2f.env", "%2e%2e/settings.py", "a.png", "%00", "0" * 32 + ".png", ""]:
        with subtests.test(msg=f"{name!r:.60}"):
            assert (await client.get(f"/media/{name}")).status_code == 404


async def test_both_media_types_are_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/docs/openapi.json")).json()
    operation = next(path for name, path in document["paths"].items() if name.strip("/") == "users/update")["patch"]
    assert operation["requestBody"]["content"].keys() == {"application/json", "multipart/form-data"}


async def test_who_sends_an_address_is_told_how_to_send_an_image(client: httpx.AsyncClient, ann: Member) -> None:
    body = {"profile_image": "https://images.example/ann.png"}
    answer = await client.patch("/users/update/", json=body, headers=ann.headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
    assert "multipart/form-data" in answer.json()["errors"][0]["message"]
