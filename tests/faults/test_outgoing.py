"""Calls to others go where the settings say and nowhere else, and no answer is too long or too slow for us."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tasks import rates_api, sms
from tasks.mail import NotSent
from tasks.rates_api import RatesSource, SourceFault, ask
from tasks.sms import SmsGateway, send_sms
from tests.peers import web_server

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def peer(talk: Talk) -> AsyncIterator[str]:
    """A server that says what it likes for as long as anybody listens."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await talk(writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def saying(said: bytes) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    return talk


async def endless(writer: asyncio.StreamWriter) -> None:
    """A body without an end, as fast as it is read."""
    writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    """A head without an end, a byte at a time: no read ever waits for long."""
    writer.write(OK + b"X-Slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def text(gateway: str) -> None:
    await send_sms(SmsGateway(url=gateway, token="t"), to="+77011234567", text="042137", reference="r")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nobody_is_followed_to_another_address(status: int) -> None:
    async with web_server(lambda: (200, b"{}")) as elsewhere:
        moved = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with peer(saying(moved)) as url:
            with pytest.raises(SourceFault):
                await ask(RatesSource(base_url=url, api_key="key"))
            with pytest.raises(NotSent) as told:
                await text(url)
        assert str(status) in str(told.value)
        assert elsewhere.requests == []


async def test_an_answer_without_an_end_is_not_read_to_it() -> None:
    async with asyncio.timeout(60), peer(endless) as url:
        with pytest.raises(SourceFault, match="too long"):
            await ask(RatesSource(base_url=url))
        await text(url)  # it was accepted: the status says so, and nobody reads on


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_api, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(sms, "SEND_SECONDS", 0.5)
    async with asyncio.timeout(60), peer(drip) as url:
        with pytest.raises(SourceFault, match="TimeoutError"):
            await ask(RatesSource(base_url=url))
        with pytest.raises(NotSent, match="TimeoutError") as told:
            await text(url)
        assert not told.value.permanent


async def test_what_was_compressed_unasked_is_not_unpacked() -> None:
    bomb = b"\x1f\x8b" + b"\0" * 1000
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with peer(saying(head + bomb)) as url:
        with pytest.raises(SourceFault, match="not rates"):
            await ask(RatesSource(base_url=url))


async def test_what_people_write_is_no_part_of_an_address() -> None:
    async with web_server(lambda: (202, b"{}")) as gateway:
        await send_sms(
            SmsGateway(url=f"{gateway.url}/send"), to="@127.0.0.1:9/?", text="http://127.0.0.1:9", reference="r"
        )
        ((request),) = gateway.requests
        assert request.startswith(b"POST /send HTTP/1.1\r\n")
