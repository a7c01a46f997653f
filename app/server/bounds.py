"""What one client may take of the server: how long, how much at once, and how many connections all of them have."""

import logging
from typing import Any, Self

from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from actors.engine.seldom import Seldom
from app.http.problems import CROWDED, Problem
from app.server.addresses import plain
from app.server.framing import FramedProtocol
from app.server.refusals import NOT_HTTP, answer, problem

# As other servers have it: our own clients send less than 4 KiB.
HEAD_MAX_BYTES = 32 * 1024
HEADERS_MAX = 100
# How fast a body has to come that takes longer than `Bounds.request_seconds`: half of what a slow mobile network does.
BYTES_PER_SECOND_MIN = 16 * 1024
# Requests that wait behind the one that is answered, each with 2 KiB. Without a bound, 256 KiB had room for 14 000.
PIPELINED_MAX = 128
# Chunks of one byte come in six: beyond this, what is sent is not meant as a body.
_FRAMING_MAX = 8


class Bounds(Struct, frozen=True, kw_only=True):
    """Those that an operator may want to turn."""

    request_seconds: float = 20
    connections_max: int = 10_000
    rest_seconds: float = 0.25
    """Who was told to come again in a second, and asks at once, is read so much later."""


TOO_SLOW = problem(
    408, "request_timeout", "The request took too long to arrive.", "Nothing has happened. Send it again, in one piece."
)
HEAD_TOO_LARGE = problem(
    431,
    "headers_too_large",
    "The headers are too large.",
    f"Send at most {HEADERS_MAX} headers of {HEAD_MAX_BYTES // 1024} KiB together.",
)
_full = Seldom(logging.getLogger(__name__), "%d connections are open, and more are answered 503")
FULL = problem(503, "overloaded", "Too many connections.", "Nothing has happened. Try again in a moment.")


class BoundedProtocol(FramedProtocol):
    """
    uvicorn's protocol, within bounds.

    uvicorn waits for a request as long as it is never quiet, and for a reader of its answers for ever; and it keeps
    whatever comes as a head. Here `hang_up_if_slow`, which the server calls about once a second, hangs up on whoever

    - has not sent a whole request in time, counted from the first call that sees it; of a large body a part must come
      within each such time, and what came before counts no more: it may be as slow as that, and never stop;
    - has not read anything of an answer for as long;
    - has connected, and sent nothing at all.

    So no request has a timer, and the times are late by a second.
    """

    bounds = Bounds()

    _answered: RequestResponseCycle | None = None  # the request that the application has, or had last
    _long_read = False
    # Of all requests so far; and of the one that comes in several pieces, what was not its body.
    _body_bytes = 0
    _pieces_of: Any = None
    _other_bytes = _body_bytes_begun = 0
    # What `hang_up_if_slow` has seen the last time.
    _awaited: Any = None
    _awaited_since = _unread_since = 0.0
    _awaited_from = _unread = 0

    @classmethod
    def within(cls, bounds: Bounds) -> type[Self]:
        """A subclass with these bounds: uvicorn makes protocols by itself, without arguments of ours."""
        return type(cls.__name__, (cls,), {"bounds": bounds})

    def connection_made(self, transport: Any) -> None:
        """One more, or one too many."""
        super().connection_made(transport)
        if self.client:
            self.client = (plain(self.client[0]), self.client[1])
        if len(self.connections) > self.bounds.connections_max:
            _full.warn(self.bounds.connections_max)
            self._refuse(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers, and whoever waits to be; uvicorn tells only the request that it has read last."""
        super().connection_lost(exc)
        for cycle in (self._answered, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is too much."""
        cycle_before, body_bytes_before = self.cycle, self._body_bytes
        self._long_read = len(data) > HEAD_MAX_BYTES
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.more_body:  # there is more to come
            other_bytes = len(data) - (self._body_bytes - body_bytes_before)
            self._piece_read(other_bytes, alone=cycle is cycle_before)

    def on_headers_complete(self) -> None:
        """The head is there; raising makes uvicorn call `send_400_response`."""
        several = self._long_read or self._pieces_of is self.scope
        if len(self.headers) > HEADERS_MAX or (several and self._head_bytes() > HEAD_MAX_BYTES):
            self._instead = HEAD_TOO_LARGE
            raise ValueError("the head is too large")
        if len(self.pipeline) >= PIPELINED_MAX:
            raise ValueError("too many requests at once")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """
        Where this process had too much to do for the request, let the next one over the connection wait a little.

        To refuse costs half of what it costs to serve: clients that ask again at once would leave no time to serve.
        """
        crowded = self.cycle is not None and CROWDED in self.cycle.scope
        super().on_response_complete()
        if crowded and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(self.bounds.rest_seconds, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """What was sent can't be read."""
        self._refuse(self._instead or NOT_HTTP)

    def hang_up_if_slow(self, now: float) -> bool:
        """Hang up on a client that has been too slow for too long; whether it was."""
        if self._reads_too_slowly(now):
            self.transport.abort()  # closing would wait until it has been read
            return True
        if not self._sends_too_slowly(now):
            return False
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and not cycle.response_complete:
            self._refuse(TOO_SLOW)
        else:
            self.transport.close()
        return True

    def _reads_too_slowly(self, now: float) -> bool:
        """Whether nothing of what waits to be read has been read within the time."""
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread:
            self._unread, self._unread_since = unread, now
        return now - self._unread_since >= self.bounds.request_seconds

    def _sends_too_slowly(self, now: float) -> bool:
        """Whether less than the least has come within the time. To read slowly is no excuse for sending slowly."""
        awaited = self._awaits()
        if awaited is None or awaited is not self._awaited:
            self._awaited, self._awaited_since, self._awaited_from = awaited, now, self._body_bytes
            return False
        seconds = now - self._awaited_since
        if seconds < self.bounds.request_seconds:
            return False
        if self.cycle is not None and self.cycle.response_complete:
            return True  # nobody wants that body any more
        if self._body_bytes - self._awaited_from < BYTES_PER_SECOND_MIN * seconds:
            return True
        self._awaited_since, self._awaited_from = now, self._body_bytes
        return False

    def _awaits(self) -> Any:
        """The request of which there is more to come, this connection before its first one, or None."""
        cycle = self.cycle
        if self.transport.is_closing():
            return None
        if cycle is None:
            return self.scope or self
        if cycle.scope is not self.scope:  # an answer under way comes first
            return self.scope if cycle.response_complete else None
        return self.scope if cycle.more_body and not self.flow.read_paused else None

    def _piece_read(self, other_bytes: int, *, alone: bool) -> None:
        """
        Keep count of a request that comes in several pieces: of its head, trailers and what stands between chunks.

        A piece that was not `alone` also had other requests, or a whole head, in it, which are not told apart here.
        """
        if self.transport.is_closing():
            return
        if self._pieces_of is not self.scope:
            self._pieces_of, self._other_bytes, self._body_bytes_begun = self.scope, 0, self._body_bytes
            other_bytes = other_bytes if alone else 0
        self._other_bytes += other_bytes
        body_bytes = self._body_bytes - self._body_bytes_begun
        if self._other_bytes > HEAD_MAX_BYTES + _FRAMING_MAX * body_bytes:
            in_body = self.cycle is not None and self.cycle.scope is self.scope
            self._refuse(NOT_HTTP if in_body else HEAD_TOO_LARGE)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse(self, problem: Problem) -> None:
        """
        Answer in the place of the application, and hang up.

        Another request's answer is never given by this one's refusal: where one is still under way it is the last, and
        where several wait, whose turn it is can't be seen, so the connection is cut.
        """
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.transport.abort()
        elif cycle is not None and cycle.response_complete and cycle.more_body:
            self.transport.close()  # the answer was given: another one would be somebody else's
        elif cycle is None or cycle.response_complete:
            self.transport.write(answer(problem))
            self.transport.close()
        elif cycle.scope is not self.scope:
            cycle.keep_alive = False
            self.flow.pause_reading()
        else:
            cycle.disconnected = True  # whatever the application says now comes too late
            if not cycle.response_started:
                # The application has begun with it, and logs how it ends, under this id.
                self.transport.write(answer(problem, cycle.scope["state"].get("request_id")))
            self.transport.close()
