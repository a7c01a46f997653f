"""Profile images: made, uploaded, found on the disk."""

from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from app.settings import Settings
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
