"""One account's images, whatever they are, keep nobody else's from being read."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from app.logs.requests import CUT_OFF
from app.people.images import child
from app.settings import Settings
from tests.helpers.images import costly_jpeg, decoders, gone, kept, picture, upload
from tests.helpers.processes import needs_linux
from tests.helpers.users import Member, register
from tests.helpers.waiting import until


async def test_one_persons_costly_images_are_in_nobodys_way(
    client: httpx.AsyncClient, ann: Member, ben: Member, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 3600)
    hostile = costly_jpeg()
    uploads = {asyncio.create_task(upload(client, ann, hostile)) for _ in range(25)}
    refused: set[asyncio.Task[httpx.Response]] = set()
    while len(uploads) > 1:
        done, uploads = await asyncio.wait(uploads, return_when=asyncio.FIRST_COMPLETED)
        refused |= done
    for answer in (task.result() for task in refused):
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "overloaded", "1")
    assert [(await upload(client, ben, picture("JPEG"))).status_code for _ in range(3)] == [200] * 3
    (under_way,) = uploads
    assert not under_way.done()
    under_way.cancel()
    await asyncio.wait(uploads)
    assert (await upload(client, ann, picture("JPEG"))).status_code == 200
    assert len(kept(settings)) == 2


async def test_what_takes_too_long_is_refused_and_the_next_one_is_read(
    client: httpx.AsyncClient, ann: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 1)
    people = [await register(client) for _ in range(3)]
    files = {"profile_image": ("me.jpg", costly_jpeg(), "image/jpeg")}
    hostile = [person.request("PATCH", "/users/update", files=files) for person in people]
    *answers, honest = await asyncio.gather(*hostile, upload(client, ann, picture("JPEG")))
    for answer in answers:
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (400, "validation_failed")
        assert [error["field"] for error in problem["errors"]] == ["profile_image"]
    assert honest.status_code == 200, "others wait, and get their turn"


@needs_linux
async def test_who_hangs_up_leaves_no_process(
    app: Litestar, client: httpx.AsyncClient, ann: Member, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CPU_SECONDS", 3600)
    files = {"profile_image": ("me.jpg", costly_jpeg(), "image/jpeg")}
    request = client.build_request("PATCH", "/users/update", files=files, headers=ann.headers)
    body, hangs_up = [request.read()], asyncio.Event()
    statuses: list[int] = []

    async def receive() -> Any:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await hangs_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope: Any = {
        "type": "http",
        "method": "PATCH",
        "path": "/users/update",
        "raw_path": b"/users/update",
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("192.0.2.1", 4321),
        "state": {},
    }
    handled = asyncio.ensure_future(app(scope, receive, send))
    await until(lambda: bool(decoders(os.getpid())))
    pids = decoders(os.getpid())
    hangs_up.set()
    await handled
    assert gone(pids)
    assert statuses == [CUT_OFF]
    assert kept(settings) == []
    assert (await upload(client, ann, picture("JPEG"))).status_code == 200, "it was their only turn"


@pytest.fixture
def no_folder(settings: Settings) -> None:
    Path(settings.media_folder).write_text("not a folder")


@pytest.mark.usefixtures("no_folder")
async def test_a_folder_that_cannot_be_written_is_said(client: httpx.AsyncClient, ann: Member) -> None:
    answer = await upload(client, ann, picture())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
