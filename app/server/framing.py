"""Where a request ends, and what belongs to its head: never another one's bytes."""

import re

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.problems import Problem
from app.server.refusals import NOT_IMPLEMENTED

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_REQUEST_LINE = re.compile(rb"^[\w!#$%&'*+.^`|~-]+ \S+ HTTP/1\.[01]\r$", re.ASCII | re.MULTILINE)


class FramedProtocol(HttpToolsProtocol):
    """
    uvicorn's protocol, without its gaps between one request and the next.

    - An offer to go on in another protocol (`Upgrade`; RFC 9110, 7.8) is declined: that is a request like any other. To
      the parser it ends with its head, and uvicorn would read its body as the next request. Behind a proxy that keeps
      its connections, that request's answer, or the request itself, would be somebody else's.
    - What follows CONNECT is not HTTP, and a body in a coding that nobody here knows has an end that others see
      elsewhere: both are refused before the application hears of them.
    - Trailers are not headers: a proxy has not looked at them (RFC 9110, 6.5.1).
    """

    _instead: Problem | None = None  # what to answer to the request that is being read

    def data_received(self, data: bytes) -> None:
        """Read on; a stranger's nonsense is no news, and is not logged."""
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while (offset := self._feed(rest)) is not None:
                rest = memoryview(rest)[offset:]
                self._read_on_in_http()
        except HttpParserError as error:
            if isinstance(error, HttpParserInvalidMethodError) and _REQUEST_LINE.search(rest):
                self._instead = NOT_IMPLEMENTED
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """The head is there; raising makes the parser refuse whatever comes behind it, too."""
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if self.parser.get_method() == b"CONNECT" or any(coding.lower() != b"chunked" for coding in codings):
            self._instead = NOT_IMPLEMENTED
            raise ValueError(NOT_IMPLEMENTED.title)
        super().on_headers_complete()
        self.headers = []  # for trailers, which nobody reads

    def on_message_complete(self) -> None:
        """The request has ended, unless it is only that the parser believes in the offer."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self.cycle.more_body = False  # uvicorn forgets it where the answer came first
        if not self.parser.should_keep_alive():  # a trailer may have said so: the parser hears nothing behind it
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()

    def _feed(self, data: bytes | memoryview) -> int | None:
        """Where the parser has stopped because of an offer, in bytes; None where it has not."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            offset: int = offer.args[0]
            return offset
        return None

    def _read_on_in_http(self) -> None:
        """
        Replace the parser by one that stands behind the same head, without the offer.

        Raises:
            HttpParserError: no body can be announced like this.
        """
        head = [b"POST / HTTP/%s\r\n" % self.parser.get_http_version().encode()]
        head += [b"%s: %s\r\n" % field for field in self.cycle.scope["headers"] if field[0] in _FRAMING]
        head.append(b"connection: %s\r\n\r\n" % (b"keep-alive" if self.parser.should_keep_alive() else b"close"))
        self.parser = HttpRequestParser(_BehindHead(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.parser.feed_data(b"".join(head))


class _BehindHead:
    """Tells the protocol what a parser finds, except for the first head."""

    def __init__(self, protocol: FramedProtocol) -> None:
        self._protocol = protocol
        self._behind = False
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if self._behind:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._behind:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._behind:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._behind:
            self._protocol.on_headers_complete()
        self._behind = True
