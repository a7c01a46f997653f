"""Servers that decode an image when their client goes, or when they are stopped or killed: nothing of it stays."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from db.engine import Pool, connection_pool
from tests.helpers.images import costly_jpeg, decoders, gone, picture
from tests.helpers.processes import children_of, needs_linux
from tests.helpers.users import Person, register
from tests.helpers.waiting import GIVE_UP_SECONDS, eventually
from tests.helpers.wallet_processes import RealServer, server

pytestmark = needs_linux


@pytest.fixture
async def api(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[RealServer]:
    addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    async with connection_pool(Pool()):
        with server("api", "--workers", "2", folder=tmp_path, **addresses) as api:
            api.wait_until_live()
            yield api


async def begin(api: RealServer, content: bytes, stack: ExitStack) -> tuple[socket.socket, set[int]]:
    """Upload this as somebody new: the connection over which that was done, and the process that decodes it."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        person = await register(client)
        files = {"profile_image": ("me.jpg", content, "image/jpeg")}
        request = client.build_request("PATCH", "/users/update", files=files, headers=person.headers)
        body = request.read()
    before = decoding(api)
    port = int(api.url.rsplit(":", 1)[1])
    connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_SECONDS)))
    head = b"".join(b"%b: %b\r\n" % field for field in request.headers.raw)
    connection.sendall(b"PATCH /users/update HTTP/1.1\r\n" + head + b"\r\n" + body)
    assert eventually(lambda: bool(decoding(api) - before))
    return connection, decoding(api) - before


def decoding(api: RealServer) -> set[int]:
    return {pid for worker in children_of(api.process.pid) for pid in decoders(worker)}


async def honest(api: RealServer) -> int:
    async with httpx.AsyncClient(base_url=api.url, timeout=GIVE_UP_SECONDS) as client:
        person: Person = await register(client)
        files = {"profile_image": ("me.jpg", picture("JPEG"), "image/jpeg")}
        return (await person.request("PATCH", "/users/update", files=files)).status_code


async def test_the_client_goes_then_the_server_stops(api: RealServer) -> None:
    hostile = costly_jpeg()
    with ExitStack() as stack:
        connection, pids = await begin(api, hostile, stack)
        assert await honest(api) == 200
        connection.close()
        assert eventually(lambda: gone(pids))
        connection, pids = await begin(api, hostile, stack)
        api.process.terminate()
        said = await asyncio.to_thread(connection.recv, 100)
        # What was asked before is answered; that the machine is too busy, if it is.
        assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 503 "))
        api.process.wait(GIVE_UP_SECONDS)
        assert gone(pids)


async def test_the_server_is_killed(api: RealServer) -> None:
    with ExitStack() as stack:
        _, pids = await begin(api, costly_jpeg(250_000), stack)
        api.process.kill()
        api.process.wait(GIVE_UP_SECONDS)
        assert eventually(lambda: gone(pids)), "it ends by itself"
