"""Calls to others go where the settings say and nowhere else, and no answer is too long or too slow for us."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import time_ns

import pytest

from actors.engine.mailbox import Passed
from app.telemetry.tracing import tracing
from tasks.messages import mail, sms
from tasks.messages.mail import NotSent, Smtp, send_mail
from tasks.messages.sms import SmsGateway, send_sms
from tasks.messages.templates import write
from tasks.rates import api as rates_api
from tasks.rates.api import RatesSource, SourceFault, ask
from tests.helpers.third_parties import web_server
from tests.helpers.waiting import GIVE_UP_SECONDS

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


ENOUGH_BYTES = 64 * 1024 * 1024


async def endless_lines(writer: asyncio.StreamWriter, line: bytes) -> None:
    """As `endless`, for a protocol of lines; a peer that has taken so much would take everything."""
    for _ in range(ENOUGH_BYTES // 65_536):
        writer.write(line * (65_536 // len(line)))
        await writer.drain()
    raise AssertionError("it takes whatever comes")


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
    async with asyncio.timeout(GIVE_UP_SECONDS), peer(endless) as url:
        with pytest.raises(SourceFault, match="too long"):
            await ask(RatesSource(base_url=url))
        await text(url)  # it was accepted: the status says so, and nobody reads on


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_api, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(sms, "SEND_SECONDS", 0.5)
    async with asyncio.timeout(GIVE_UP_SECONDS), peer(drip) as url:
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


class TestTraces:
    """A collector of traces is asked by a library, in a thread of its own."""

    @staticmethod
    async def send(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """One span; it returns when the exporter has given up or is content."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        traces = tracing(url)
        assert traces
        now = time_ns()
        traces.on_road([Passed("lock", now, now + 1)])
        await asyncio.to_thread(traces.close)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_nobody_is_followed_to_another_address(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        asked = 0
        async with web_server(lambda: (200, b"")) as elsewhere:

            async def move(writer: asyncio.StreamWriter) -> None:
                nonlocal asked
                asked += 1
                writer.write(
                    f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n".encode()
                )

            async with peer(move) as url:
                await self.send(url, monkeypatch)
        assert (asked, elsewhere.requests) == (1, [])

    async def test_an_answer_without_an_end_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(OK + b"\r\n")
            try:
                await endless_lines(writer, b"more\n")
            except (AssertionError, ConnectionError) as end:
                said.set_result(type(end).__name__)

        async with asyncio.timeout(GIVE_UP_SECONDS), peer(say) as url:
            await self.send(url, monkeypatch)
            assert await said in ("ConnectionResetError", "BrokenPipeError")


class TestMail:
    """A mail server speaks in lines, and first."""

    @staticmethod
    @asynccontextmanager
    async def server(
        talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> AsyncIterator[Smtp]:
        """One that says what it likes. In the end it must have been hung up on, and not have said everything."""
        ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            end: BaseException | None = None
            try:
                await talk(reader, writer)
                while await reader.read(65_536):
                    pass
            except (AssertionError, ConnectionError, EOFError) as error:
                end = error
            ended.set_result(end)
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            yield Smtp(host="127.0.0.1", port=listener.sockets[0].getsockname()[1], tls="none")
            assert not isinstance(await ended, AssertionError), ended
        listener.close()

    @staticmethod
    async def write_to(smtp: Smtp) -> None:
        await send_mail(smtp, to="a@x.kz", letter=write("welcome", {}), reference="1")

    @staticmethod
    async def as_far_as(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: bytes) -> None:
        """A polite conversation up to this command, which is left without an answer."""
        writer.write(b"220 hello\r\n")
        while not (asked := await reader.readuntil(b"\r\n")).startswith(command):
            if not asked.startswith(b"DATA"):
                writer.write(b"250 fine\r\n")
                continue
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 taken\r\n")

    @pytest.mark.parametrize("command", [b"EHLO", b"MAIL", b"RCPT", b"DATA"])
    @pytest.mark.parametrize("line", [b"250-more\r\n", b"x" * 1000], ids=["lines", "one line"])
    async def test_an_answer_without_an_end_is_not_read_to_it(self, command: bytes, line: bytes) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.as_far_as(reader, writer, command)
            await endless_lines(writer, line)

        async with self.server(talk) as smtp:
            with pytest.raises(NotSent) as told:
                await self.write_to(smtp)
        assert not told.value.permanent

    @pytest.mark.parametrize("said", [b"", b"220-", b"220 hello\r\n", b"220 hello\r\n250-"], ids=str)
    async def test_an_answer_that_drips_or_does_not_come_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch, said: bytes
    ) -> None:
        monkeypatch.setattr(mail, "SEND_SECONDS", 0.5)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            while said.endswith(b"-"):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

        async with self.server(talk) as smtp:
            with pytest.raises(NotSent) as told:
                await self.write_to(smtp)
        assert not told.value.permanent

    async def test_a_server_that_has_taken_the_message_and_does_not_let_go_has_taken_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mail, "SEND_SECONDS", 0.5)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.as_far_as(reader, writer, b"QUIT")

        async with self.server(talk) as smtp:
            await self.write_to(smtp)
