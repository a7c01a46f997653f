"""An HTTP server that leaves without slamming the door: whoever the kernel has let in is answered."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

from uvicorn import Config, Server

from app.server.descriptors import say_if_none_is_left
from app.server.protocol import HttpProtocol

log = logging.getLogger(__name__)

# Whoever has just connected is about to ask; a connection that has said nothing for so long is closed.
FIRST_REQUEST_SECONDS = 1.0
SLOW_CHECK_TICKS = 10  # of a tenth of a second each
CLOSE = (b"connection", b"close")


class GracefulServer(Server):
    """
    uvicorn with a longer farewell.

    At the first signal it calls `at_first_signal` and stays for `linger_seconds`, in which proxies learn to ask
    elsewhere: it still accepts, and each answer is the last one on its connection. A second signal ends that at once.
    Then whoever waits to be accepted is let in, the door is closed, and what has been asked is answered.
    """

    def __init__(self, config: Config, *, linger_seconds: float, at_first_signal: Callable[[], object]) -> None:
        super().__init__(config)
        self._linger_seconds = linger_seconds
        self._at_first_signal = at_first_signal
        self._linger_until: float | None = None
        self._leaving = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal, in the middle of whatever is running: only take note of it."""
        first = self._linger_until is None
        if first:
            self._linger_until = time.monotonic() + self._linger_seconds
        if first and self._linger_seconds and self.started:
            self._captured_signals.append(sig)
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to leave; uvicorn asks ten times a second."""
        if self._linger_until is not None:
            self._say_farewell()
            self.should_exit |= time.monotonic() >= self._linger_until
        if counter % SLOW_CHECK_TICKS == 0:
            self._hang_up_on_the_slow()
            say_if_none_is_left()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door, behind those who stood before it, and return when everybody has been answered."""
        self._say_farewell()
        # In one go: whoever the kernel lets in between the last accept and the close would be thrown out.
        newcomers = [connection for listener in sockets or [] for connection in _waiting_at(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in newcomers:
            with suppress(OSError):  # it has gone away meanwhile
                await loop.connect_accepted_socket(self._new_protocol, connection)
        until = loop.time() + FIRST_REQUEST_SECONDS
        await asyncio.sleep(0)  # so that what lies ready on older connections is read before they are closed
        while any(each.cycle is None for each in self._connections()) and loop.time() < until:  # noqa: ASYNC110 once
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _say_farewell(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        self._at_first_signal()
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for connection in self._connections():
            # The answers under way got their headers before; one that has already begun is not to be the last.
            if connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.keep_alive = False

    def _hang_up_on_the_slow(self) -> None:
        now = time.monotonic()
        if slow := sum(connection.hang_up_if_slow(now) for connection in self._connections()):
            log.info("hung up on %d clients that were too slow", slow)

    def _connections(self) -> list[HttpProtocol]:
        return [each for each in self.server_state.connections if isinstance(each, HttpProtocol)]

    def _new_protocol(self) -> HttpProtocol:
        make: Any = self.config.http_protocol_class
        made = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        assert isinstance(made, HttpProtocol)
        return made


def _waiting_at(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections that the kernel has set up and nobody has accepted yet."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody, as a rule
            return
        yield connection
