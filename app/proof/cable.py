"""The cable between us and PostgreSQL or Redis, for whoever wants to cut it at the worst moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

# How asyncpg says it: a simple query (PostgreSQL's frontend/backend protocol, "Query").
COMMIT = b"Q\0\0\0\x0cCOMMIT;\0"
TERMINATED = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
FATAL = b"E" + (len(TERMINATED) + 4).to_bytes(4, "big") + TERMINATED

Fault = Literal["unsent", "sent", "unanswered", "terminated", "silent"]
"""
What happens to a COMMIT: it never leaves; it leaves and the cable is cut at once; it happens and its answer is cut
off, or is replaced by the server's goodbye; or the answer just never comes.
"""


@dataclass
class Cable:
    """Passes bytes on, until a fault that is in `faults` meets a COMMIT; the first COMMIT gets the first fault."""

    host: str
    port: int
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    unplug_at_fault: bool = False
    unplugged: bool = False
    commits: int = 0
    _passing: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _forgotten: set[asyncio.StreamWriter] = field(default_factory=set)

    def unplug(self) -> None:
        """Cut every connection, and new ones as soon as they are made, until `plug`."""
        self.unplugged = True
        for writer in self._writers:
            writer.transport.abort()

    def plug(self) -> None:
        """Let connections through again."""
        self.unplugged = False

    def hush(self) -> None:
        """Keep whatever is sent, both ways and over every connection, old or new, until `speak`."""
        self._passing.clear()

    def speak(self) -> None:
        """Let through what was kept, and whatever comes."""
        self._passing.set()

    def forget(self) -> None:
        """Lose whatever is sent over the connections there are, and tell neither end; new ones are sound."""
        self._forgotten |= self._writers

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection, until either side closes it or it is cut."""
        if self.unplugged:
            to_client.transport.abort()
            return
        await self._passing.wait()
        try:
            server, to_server = await asyncio.open_connection(self.host, self.port)
        except OSError:  # nobody is at the other end
            to_client.transport.abort()
            return
        ends = {to_client, to_server}
        self._writers |= ends
        met: list[Fault] = []
        try:
            ways = [
                asyncio.create_task(self._there(client, to_server, met)),
                asyncio.create_task(self._back(server, to_client, met)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers -= ends
            self._forgotten -= ends
            if met and self.unplug_at_fault:
                self.unplug()
            for end in ends:
                if not end.is_closing():  # what was written to one that is closing still arrives
                    end.transport.abort()

    async def _there(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, met: list[Fault]) -> None:
        """From asyncpg to PostgreSQL; returns where the cable is cut."""
        while message := await client.read(65536):
            await self._passing.wait()
            if to_server in self._forgotten:
                continue
            if message.endswith(COMMIT):
                self.commits += 1
                if self.faults:
                    met.append(self.faults.pop(0))
            if met == ["unsent"]:
                return
            with suppress(ConnectionError):
                to_server.write(message)
                await to_server.drain()
            if met == ["sent"]:
                to_server.close()
                return

    async def _back(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter, met: list[Fault]) -> None:
        """From PostgreSQL to asyncpg; an answer that is held back is not passed on."""
        while message := await server.read(65536):
            await self._passing.wait()
            if met == ["silent"] or to_client in self._forgotten:
                continue
            if met == ["terminated"]:
                to_client.write(FATAL)
                await to_client.drain()
                to_client.close()
            if met:
                return
            to_client.write(message)
            await to_client.drain()


@asynccontextmanager
async def cable(server_url: str) -> AsyncIterator[Cable]:
    """A cable to this server; `url` is its near end."""
    parts = urlsplit(server_url)
    made = Cable(host=parts.hostname or "", port=parts.port or 0)
    made.speak()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    login, at, _ = parts.netloc.rpartition("@")
    made.url = urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    try:
        yield made
    finally:
        server.close()
        made.speak()
        made.unplug()
