"""A request that offers to go on in another protocol is a request like any other, however its bytes arrive."""

import asyncio
import gc
import json
import random
import weakref
from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from app.server.bounds import PIPELINED_MAX, BoundedProtocol
from app.server.protocol import HttpProtocol
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wire import Wire

SMUGGLED = b"DELETE /smuggled HTTP/1.1\r\nHost: b\r\n\r\n"
OFFERED = {"connection", "upgrade", "http2-settings", "sec-websocket-key", "sec-websocket-version"}

# The headers of an offer, and those of the same request without it.
OFFERS = [
    (b"Connection: Upgrade\r\nUpgrade: x\r\n", b""),
    (b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\nSec-WebSocket-Version: 13\r\n", b""),
    (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", b""),
    (b"Upgrade: TLS/1.0\r\nConnection: keep-alive, Upgrade\r\n", b"Connection: keep-alive\r\n"),
    (b"Upgrade: a/1, b\r\nConnection: UPGRADE\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n", b""),
    (b"Connection: a,upgrade ,b\r\nUpgrade:\r\n", b""),
    (b"Connection: close, Upgrade\r\nUpgrade: x\r\n", b"Connection: close\r\n"),
    (b"Connection: Upgrade\r\nConnection: close\r\nUpgrade: h2c\r\n", b"Connection: close\r\n"),
]
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SOUND = [  # the headers that announce a body, and its bytes
    (b"", b""),
    (b"Content-Length: 0\r\n", b""),
    (b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    (b"X:\r\nContent-Length:  %d \r\n" % len(SMUGGLED), SMUGGLED),
    (b"Expect: 100-continue\r\nContent-Length: 4\r\n", b"\r\n\r\n"),
    (CHUNKED, b"0\r\n\r\n"),
    (CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    (b"transfer-encoding:\tChunked\r\n", b"2\r\nGE\r\n1\r\nT\r\n0\r\nX-Late: a\r\nX-Forwarded-For: b\r\n\r\n"),
    (b"Expect: 100-continue\r\n" + CHUNKED, b'3;a="b"\r\n{}\n\r\n000\r\n\r\n'),
]
UNSOUND = [
    (b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED),
    (CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED),
    (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"GET /"),
    (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"GET / "),
    (b"Content-Length: -1\r\n", SMUGGLED),
    (b"Content-Length: +5\r\n", b"GET /"),
    (b"Content-Length: 5, 5\r\n", b"GET /"),
    (b"Content-Length: 99999999999999999999\r\n", SMUGGLED),
    (b"Content-Length: \r\n", SMUGGLED),
    (b"Content-Length : 5\r\n", b"GET /"),
    (b"Content-Length:\r\n 5\r\n", b"GET /"),
    (b"X: a\r\n Content-Length: 5\r\n", b"GET /"),
    (b"X: a\nContent-Length: 5\r\n", b"GET /"),
    (b"X: a\rContent-Length: 5\r\n", b"GET /"),
    (b"Content-Length: 5\r\n\n", b"GET /"),
    *((b"Transfer-Encoding: %s\r\n" % coding, b"0\r\n\r\n" + SMUGGLED) for coding in (b"x", b"identity", b"")),
    *(
        (b"Transfer-Encoding: %s\r\n" % coding, b"0\r\n\r\n")
        for coding in (b"gzip, chunked", b"chunked, x", b"xchunked")
    ),
    (b"Transfer-Encoding: gzip\r\n" + CHUNKED, b"0\r\n\r\n"),
    (CHUNKED + CHUNKED, b"0\r\n\r\n"),
    (CHUNKED, b"-1\r\n" + SMUGGLED),
    (CHUNKED, b"2 \r\nab\r\n0\r\n\r\n"),
    (CHUNKED, b"2\nab\n0\n\n"),
    (CHUNKED, b"2\r\nabc\r\n0\r\n\r\n"),
    (CHUNKED, b"fffffffffffffffff\r\n" + SMUGGLED),
    (CHUNKED, b"0\r\nX-Late : a\r\n\r\n" + SMUGGLED),
    (CHUNKED, b"0\r\n" + b"X-Late: a\r\n" * 5000),
    (b"X: a\r\n" * 101, b""),
    (b"X: " + b"a" * 33_000 + b"\r\n", b""),
]
PLAIN = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
# What follows over the same connection; the %s are for another offer.
BEHIND = [
    b"",
    PLAIN,
    b"\r\n" + PLAIN + b"POST /more HTTP/1.1\r\n%sContent-Length: 3\r\nHost: a\r\n\r\nabc" + PLAIN,
    b"PUT /more HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n%s\r\n",
    b"nonsense\r\n\r\n" + SMUGGLED,
    PLAIN + b"nonsense\r\n\r\n" + SMUGGLED,
]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PURGE"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what was asked; on /early before the body is there, on /never not before the client has gone."""
    body, more = b"", scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/never":
        assert (await receive())["type"] == "http.disconnect"
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name.decode() not in OFFERED]
    seen = {key: scope[key] for key in ("method", "path", "http_version")} | {"headers": headers, "body": body.decode()}
    said = json.dumps(seen).encode()
    length = (b"content-length", str(len(said)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": said})


CONFIG = Config(echo, http=HttpProtocol, ws="none", access_log=False, log_config=None, date_header=False)


class Connection:
    """To a server of its own that runs `echo`."""

    def __init__(self) -> None:
        self.state = ServerState()
        self.wire = Wire()
        self.protocol: BoundedProtocol = HttpProtocol(CONFIG, self.state, {})
        self.protocol.connection_made(self.wire)

    async def deliver(self, piece: bytes) -> None:
        """Let the server read this, and answer what it can."""
        if self.wire.closed:
            return
        self.protocol.data_received(piece)
        for _ in range(3 + 3 * piece.count(b" HTTP/1.")):  # its tasks wait for nobody but the client
            await asyncio.sleep(0)

    @property
    def said(self) -> bytes:
        """All that the server has said, without the ids that it has made up."""
        lines = self.wire.said.split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.startswith(b"x-request-id: "))

    async def end(self) -> None:
        self.protocol.connection_lost(None)
        await asyncio.sleep(0)


async def answers(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """What a server says to these pieces, and whether it hangs up."""
    connection = Connection()
    for piece in pieces:
        await connection.deliver(piece)
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while connection.state.tasks and not connection.wire.closed and not connection.protocol.cycle.more_body:
            await asyncio.wait(connection.state.tasks)
    outcome = connection.said, connection.wire.closed
    await connection.end()
    return outcome


def request(
    method: bytes, offer: bytes, framing: tuple[bytes, bytes], behind: bytes, *, version: bytes, late: bool, path: bytes
) -> bytes:
    """A request that makes this offer, if any, with what follows it."""
    announced, body = framing
    headers = announced + offer if late else offer + announced
    behind = behind.replace(b"%s", offer if b"close" not in offer else b"")
    return b"%s %s HTTP/%s\r\nHost: a\r\n%s\r\n%s%s" % (method, path, version, headers, body, behind)


def pairs(framings: list[tuple[bytes, bytes]], count: int) -> list[tuple[bytes, bytes]]:
    """So many requests with an offer, each beside the same one without."""
    every = list(
        product(METHODS, OFFERS, framings, BEHIND, [b"1.1", b"1.1", b"1.0"], [True, False], [b"/x", b"/early"])
    )
    made = []
    for method, offer, framing, behind, version, late, path in random.Random(9110).sample(every, count):
        with_offer, without = (
            request(method, each, framing, behind, version=version, late=late, path=path) for each in offer
        )
        made.append((with_offer, without))
    return made


def bytewise(whole: bytes) -> Iterable[bytes]:
    return (whole[at : at + 1] for at in range(len(whole)))


async def test_an_offer_changes_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    for offering, plain in pairs(SOUND, 300) + pairs(UNSOUND, 300):
        at_once = await answers([plain])
        assert await answers([offering]) == at_once, offering
        if len(offering) < 2000:
            assert await answers(bytewise(offering)) == await answers(bytewise(plain)), offering
    assert not caplog.records


async def test_an_answer_is_the_same_however_the_request_is_cut_into_packets() -> None:
    sound = [each for each in pairs(SOUND, 60) if b"nonsense" not in each[0]][:30]
    for offering, plain in sound:
        expected = await answers([plain])
        assert await answers(bytewise(offering)) == expected, offering
        for at in range(1, len(offering)):
            assert await answers([offering[:at], offering[at:]]) == expected, (offering[:at], offering[at:])


@pytest.mark.parametrize("offer", [offer for offer, _ in OFFERS[:6]])
async def test_the_body_behind_an_offer_is_never_a_request(offer: bytes) -> None:
    head = b"GET /first HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n" % (offer, len(SMUGGLED))
    for pieces in ([head + SMUGGLED + PLAIN], [head, SMUGGLED, PLAIN], [head, SMUGGLED + PLAIN]):
        said, closed = await answers(pieces)
        assert said.count(b"HTTP/1.1 200 OK\r\n") == 2
        first, second = (json.loads(each.split(b"\r\n\r\n", 1)[1]) for each in said.split(b"HTTP/1.1 200 OK\r\n")[1:])
        assert (first["path"], first["body"].encode(), second["path"]) == ("/first", SMUGGLED, "/next")
        assert not closed


@pytest.mark.parametrize("target", [b"a:443", b"/x", b"http://a/x"])
@pytest.mark.parametrize("offer", [b"", OFFERS[0][0]])
@pytest.mark.parametrize("framing", [SOUND[0], SOUND[2], SOUND[6]])
async def test_behind_connect_nothing_is_a_request(target: bytes, offer: bytes, framing: tuple[bytes, bytes]) -> None:
    announced, body = framing
    asked = b"CONNECT %s HTTP/1.1\r\nHost: a\r\n%s%s\r\n%s%s" % (target, offer, announced, body, SMUGGLED)
    for pieces in ([asked], bytewise(asked), [PLAIN, asked]):
        said, closed = await answers(pieces)
        assert closed
        assert said.rpartition(b"HTTP/1.1 ")[2].startswith(b"501 ")
        assert b'"code":"not_implemented"' in said
        assert b"/smuggled" not in said
    said, closed = await answers([PLAIN + asked])  # the answer to the first one is the last one
    assert closed
    assert said.count(b"HTTP/1.1") == 1
    assert b"/next" in said


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"GETS / HTTP/1.0\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", b"501"),
        (b"\x16\x03\x01\x02\x00", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ],
)
async def test_what_nobody_here_knows_never_reaches_the_application(asked: bytes, status: bytes) -> None:
    connection = Connection()
    await connection.deliver(asked)
    assert connection.said.startswith(b"HTTP/1.1 " + status)
    assert connection.wire.closed
    assert connection.protocol.cycle is None
    await connection.end()


async def test_trailers_are_no_headers() -> None:
    asked = b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n" % CHUNKED
    assert b"x-forwarded-for" not in (await answers([asked]))[0]
    assert (await answers([asked]))[0] == (await answers([asked.replace(b"X-Forwarded-For: 192.0.2.1\r\n", b"")]))[0]


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"\r\n0\r\n", b"X-More: " + b"x" * 1000 + b"\r\n"),  # trailers
        (b"\r\n", b"1;" + b"x" * 1000 + b"\r\na\r\n"),  # what stands between chunks
        (b"", b"X-More: " + b"x" * 1000 + b"\r\n"),  # a head
    ],
)
async def test_what_has_no_end_is_cut_as_soon_behind_an_offer(begun: bytes, piece: bytes) -> None:
    pieces, said = [], []
    for offer in (b"", OFFERS[0][0]):
        connection = Connection()
        await connection.deliver(b"POST /x HTTP/1.1\r\n%s%s%s" % (offer, CHUNKED, begun))
        sent = 0
        while not connection.wire.closed:
            await connection.deliver(piece)
            sent += 1
            assert sent < 100
        pieces.append(sent)
        said.append(connection.said)
        await connection.end()
    assert pieces[0] == pieces[1]
    assert said[0] == said[1]


@pytest.mark.parametrize("offer", [b"", OFFERS[0][0], OFFERS[2][0]])
async def test_a_slow_client_is_found_behind_an_offer_too(offer: bytes) -> None:
    connection = Connection()
    await connection.deliver(b"POST /x HTTP/1.1\r\n%sContent-Length: 9\r\n\r\nGET" % offer)
    assert not connection.protocol.hang_up_if_slow(1000)
    assert connection.protocol.hang_up_if_slow(2000)
    assert connection.said.startswith(b"HTTP/1.1 408 ")
    await connection.end()


@pytest.mark.parametrize("offer", [b"", OFFERS[0][0]])
async def test_who_was_answered_before_the_end_and_has_sent_it_owes_nothing(offer: bytes) -> None:
    connection = Connection()
    await connection.deliver(b"POST /early HTTP/1.1\r\n%sContent-Length: 9\r\n\r\nGET" % offer)
    await connection.deliver(b" / HTT")
    assert not connection.protocol.hang_up_if_slow(1000)
    assert not connection.protocol.hang_up_if_slow(2000)
    assert connection.said.count(b"HTTP/1.1") == 1
    assert not connection.wire.closed
    await connection.end()


POST_CHUNKED = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize("path", [b"/early", b"/late"])
@pytest.mark.parametrize("trailer", [b"Connection: close", b"connection: CLOSE", b"Connection: keep-alive, close"])
async def test_a_trailer_that_says_close_leaves_no_connection_that_hears_nothing(path: bytes, trailer: bytes) -> None:
    """The parser takes it for the header, and drops whatever follows."""
    said, closed = await answers([POST_CHUNKED % path, b"0\r\n" + trailer + b"\r\n\r\n", PLAIN])
    assert said.count(b"HTTP/1.1 ") == 1
    assert closed


@pytest.mark.parametrize(
    "end", [b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nContent-Length: 4\r\n\r\n", b"x\r\n"]
)
async def test_a_request_that_was_answered_and_ends_badly_gets_no_second_answer(end: bytes) -> None:
    """Behind a proxy that keeps its connections it would be the answer to somebody else's next request."""
    said, closed = await answers([POST_CHUNKED % b"/early", end])
    assert said.count(b"HTTP/1.1 ") == 1
    assert closed


async def test_only_so_many_requests_wait_for_their_turn_and_go_with_their_connection() -> None:
    connection = Connection()
    connection.protocol.data_received(PLAIN * 10_000)
    assert connection.wire.closed
    assert len(connection.protocol.pipeline) <= PIPELINED_MAX
    waiting = weakref.ref(connection.protocol.pipeline[-2][0])
    await connection.end()
    for _ in range(10):
        await asyncio.sleep(0)
    gc.collect()
    assert waiting() is None
    few, closed = await answers([PLAIN * PIPELINED_MAX])
    assert (few.count(b"HTTP/1.1 200"), closed) == (PIPELINED_MAX, False)


@pytest.mark.parametrize("path", [b"/late", b"/never"])
async def test_whoever_is_answered_hears_that_the_client_has_gone_also_where_others_wait(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection()
    connection.protocol.data_received(POST_CHUNKED % path)
    for _ in range(3):
        await asyncio.sleep(0)
    connection.protocol.data_received(b"0\r\n\r\n" + PLAIN + PLAIN)
    begun = list(connection.protocol.tasks)
    connection.wire.abort()
    for _ in range(3):  # the transport tells of it a moment later
        await asyncio.sleep(0)
    await connection.end()
    async with asyncio.timeout(GIVE_UP_SECONDS):
        await asyncio.gather(*begun)
    assert connection.wire.pieces == []
    assert not caplog.records
