"""
Callers who do what a load balancer does: they keep connections, ask another server where one refuses to connect or says
that it is not ready, and never send a request twice.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from msgspec import Struct

LOOK_SECONDS = 0.1


class Response(Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Dispatcher:
    """Which server is the next to be asked, of those that say they are ready."""

    ports: list[int]
    ready: set[int] = field(default_factory=set)
    _turns: Iterator[int] = field(default_factory=count)

    async def watch(self) -> None:
        """Ask each server whether it is ready, again and again."""
        while True:
            for port in self.ports:
                caller = Caller(Dispatcher([port], {port}))
                with suppress(OSError, Dropped):
                    answer = await caller.ask("GET", "/health/ready", close=True)
                    (self.ready.add if answer.status == 200 else self.ready.discard)(port)
            await asyncio.sleep(LOOK_SECONDS)

    def next_ports(self) -> list[int]:
        """In which order to try, for a new connection."""
        ports = [port for port in self.ports if port in self.ready] or self.ports
        turn = next(self._turns) % len(ports)
        return ports[turn:] + ports[:turn]


class Dropped(Exception):
    """A request was sent over a connection that stood, and was not answered."""


@dataclass
class Caller:
    """One connection at a time, kept as long as the server lets it."""

    dispatcher: Dispatcher
    has_asked: bool = False
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: Any = None, *, token: str = "", close: bool = False) -> Response:
        """
        Send a request once; with `close` over a connection of its own.

        Raises:
            Dropped: it was sent, and no answer came.
            OSError: nobody lets us connect. Nothing was sent.
        """
        if self._reader is None or self._reader.at_eof():  # closed while idle: nothing has been sent over it
            self.hang_up()
            await self._connect()
        assert self._reader
        assert self._writer
        content = json.dumps(body).encode() if body is not None else b""
        head = [f"{method} {path} HTTP/1.1", "Host: wallet.test", f"Content-Length: {len(content)}"]
        head += ["Content-Type: application/json"] if content else []
        head += [f"Authorization: Bearer {token}"] if token else []
        head += ["Connection: close"] if close else []
        try:
            self._writer.write("\r\n".join([*head, "", ""]).encode() + content)
            self.has_asked = True
            answer = await self._read(self._reader)
        except (OSError, EOFError) as error:
            raise Dropped(f"{method} {path}: {error!r}") from error
        if close or answer.headers.get("connection", "").lower() == "close":
            self.hang_up()
        return answer

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None

    async def _connect(self) -> None:
        refused: OSError | None = None
        for port in self.dispatcher.next_ports():
            try:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                refused = error
            else:
                return
        assert refused
        raise refused

    async def _read(self, reader: asyncio.StreamReader) -> Response:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        return Response(status=int(lines[0].split()[1]), headers=headers, body=json.loads(body))


@dataclass
class Load:
    """Callers who deposit one tenge after the other into wallets of theirs, and note every answer."""

    answers: list[Response] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    over: bool = False
    pause_seconds: float = 0
    """Between two of the same caller: whoever needs a load that lasts leaves the processor to others as well."""

    async def run(self, caller: Caller, deposit: Callable[[], tuple[str, str]], *, close: bool = False) -> None:
        """Until `over`: `deposit` tells the path and the token of the next one."""
        while not self.over:
            path, token = deposit()
            try:
                self.answers.append(await caller.ask("POST", path, {"amount": "1.00"}, token=token, close=close))
            except Dropped as dropped:
                self.dropped.append(dropped)
                caller.hang_up()
            await asyncio.sleep(self.pause_seconds)
        caller.hang_up()

    async def more(self, answers: int) -> None:
        """Return when so many more have been given: the load is on."""
        wanted = len(self.answers) + answers
        while len(self.answers) < wanted and not self.dropped:  # noqa: ASYNC110 - plain to read
            await asyncio.sleep(0.01)
