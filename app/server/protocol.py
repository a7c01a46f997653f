"""uvicorn's HTTP protocol, with a whole answer sent in one piece."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.http.security_headers import ANSWER, PRODUCTION_ANSWER
from app.server.bounds import BoundedProtocol

# Those with a meaning for the connection, and answers that have no body, are uvicorn's.
_OF_CONNECTION = frozenset({b"connection", b"transfer-encoding"})
_WITHOUT_BODY = frozenset({204, 304})
# Beyond this, putting head and body together takes longer than sending them one by one.
_WHOLE_MAX = 64 * 1024


_RUNS = [(run, b"".join(b"%s: %s\r\n" % field for field in run)) for run in (PRODUCTION_ANSWER, ANSWER)]


class HttpProtocol(BoundedProtocol):
    """
    Sends head and body together, where the body comes in one piece and its length is known.

    uvicorn writes the head of an answer, then its body, and uvloop hands each write to the kernel at once: two system
    calls and two packets for 500 bytes.
    """

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = _Cycle  # uvicorn makes it where nobody can have a say
        super()._start_asgi_task(cycle, app)


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    _start: Any = None  # the message that begins the answer, until the next one has come

    async def send(self, message: Any) -> None:
        """Take an ASGI message of the answer; the first one waits for the second."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if not self.flow.write_paused and not self.disconnected and (whole := self._whole(start, message)):
                self._finish(whole)
                return
            await super().send(start)
        await super().send(message)

    def _whole(self, start: Any, message: Any) -> bytes | None:
        """Head and body as they are sent; None where there is more to it than these two."""
        body, status, length = message.get("body", b""), start["status"], -1
        if message.get("more_body") or len(body) > _WHOLE_MAX or status in _WITHOUT_BODY:
            return None
        if self.scope["method"] == "HEAD" or not self.keep_alive:
            return None
        pieces, lines = [STATUS_LINE[status]], 2  # with the empty one behind the headers
        own = start["headers"]
        # What every answer of the API has stands before its last header, and is put together already.
        for run, joined in _RUNS:
            if tuple(own[-len(run) - 1 : -1]) == run:
                pieces.append(joined)
                lines += len(run)
                own = [*own[: -len(run) - 1], own[-1]]
                break
        for headers in (self.default_headers, own):
            for name, value in headers:
                if name in _OF_CONNECTION:
                    return None
                if name == b"content-length":
                    length = int(value)
                pieces += (name, b": ", value, b"\r\n")
                lines += 1
        head = b"".join([*pieces, b"\r\n"])
        # A line break in a header would begin a header, or an answer, of somebody else's making: uvicorn will complain.
        clean = head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n") == lines and b"\0" not in head
        return head + bytes(body) if clean and length == len(body) else None

    def _finish(self, whole: bytes) -> None:
        if self.transport.is_closing():
            self.disconnected = True  # nobody hears it
            return
        self.transport.write(whole)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.on_response()
