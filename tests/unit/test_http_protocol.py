"""The bytes of an answer are uvicorn's own, whether or not they are sent in one piece."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.http.problems import CROWDED
from app.http.security_headers import ANSWER, PRODUCTION_ANSWER
from app.server.bounds import Bounds
from app.server.protocol import HttpProtocol
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wire import Wire

BODIES = st.binary(max_size=40)
HEADERS = st.lists(
    st.sampled_from(
        [
            (b"content-type", b"application/json"),
            (b"x-request-id", b"01a2"),
            (b"retry-after", b"1"),
            (b"x-split", b"a\r\nset-cookie: b=c"),
            (b"x-split", b"a\nb"),
            (b"x-null", b"\0"),
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
        ]
    ),
    max_size=4,
)
# What the application puts on its answers, as the last but one: it is sent as it was put together once.
RUNS = st.sampled_from([(), (), ANSWER, PRODUCTION_ANSWER, ANSWER[:-1]])
REQUESTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 3,  # one after another, without waiting for the answers
    ]
)


async def asked(protocol: type[HttpToolsProtocol], request: bytes, answer: list[dict[str, Any]], fails: bool) -> Wire:
    """What goes over the wire for a request that the application answers with these messages."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in answer:
            await send(dict(message))
        if fails:
            raise ValueError("the application's own")

    config = Config(app, http=protocol, ws="none", access_log=False, log_config=None, log_level=60, date_header=False)
    config.load()
    state = ServerState()
    wire = Wire()
    connection = protocol(config, state, {})
    connection.connection_made(wire)
    connection.data_received(request)
    while state.tasks:  # not `gather`, which gives way to nobody where all are done: none would ever leave the set
        await asyncio.wait(state.tasks)
    wire.closed_by_server = wire.closed
    connection.connection_lost(None)
    return wire


def lines(wire: Wire) -> list[list[bytes]]:
    """What was sent, without regard to the order of an answer's headers, which means nothing."""
    return [sorted(part.split(b"\r\n")) for part in b"".join(wire.pieces).split(b"\r\n\r\n")]


@settings(max_examples=600, deadline=None)
@given(
    request=REQUESTS,
    status=st.sampled_from([200, 201, 204, 207, 304, 400, 503]),
    headers=HEADERS,
    run=RUNS,
    last=HEADERS,
    bodies=st.lists(BODIES, min_size=1, max_size=3),
    length_off_by=st.sampled_from([None, 0, 0, 0, 1, -1]),
    messages=st.sampled_from([1, 2, 3, 4, 4, 4]),
    fails=st.booleans(),
)
def test_the_same_bytes_as_uvicorn(
    request: bytes,
    status: int,
    headers: list[tuple[bytes, bytes]],
    run: tuple[tuple[bytes, bytes], ...],
    last: list[tuple[bytes, bytes]],
    bodies: list[bytes],
    length_off_by: int | None,
    messages: int,
    fails: bool,
) -> None:
    if length_off_by is not None:
        length = str(max(0, len(b"".join(bodies)) + length_off_by)).encode()
        headers = [*headers, (b"content-length", length)]
    headers = [*headers, *run, *last]
    answer: list[dict[str, Any]] = [{"type": "http.response.start", "status": status, "headers": headers}]
    answer += [
        {"type": "http.response.body", "body": body, "more_body": place < len(bodies) - 1}
        for place, body in enumerate(bodies)
    ]
    answer = answer[:messages]
    theirs = asyncio.run(asked(HttpToolsProtocol, request, answer, fails))
    ours = asyncio.run(asked(HttpProtocol, request, answer, fails))
    if messages == 1:  # better: where nothing but a head has come, there is still time to say that something failed
        assert b" 500 Internal Server Error\r\n" in b"".join(ours.pieces)
        return
    assert lines(ours) == lines(theirs)
    assert ours.closed_by_server == theirs.closed_by_server


async def test_who_is_refused_because_there_is_too_much_to_do_is_read_a_little_later() -> None:
    over = asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/crowded":
            scope[CROWDED] = True
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})
        over.set()

    config = Config(app, http=HttpProtocol, ws="none", access_log=False, log_config=None, log_level=60)
    config.load()
    wire = Wire()
    connection = HttpProtocol.within(Bounds(rest_seconds=0.5))(config, ServerState(), {})
    connection.connection_made(wire)
    for path, reading in ((b"/", True), (b"/crowded", False), (b"/", True), (b"/crowded", False)):
        over.clear()
        connection.data_received(b"GET %s HTTP/1.1\r\nhost: a\r\n\r\n" % path)
        await over.wait()
        assert wire.reading is reading
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not wire.reading:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.01)
    connection.connection_lost(None)


def test_an_answer_is_one_piece() -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    answer = [
        {"type": "http.response.start", "status": 201, "headers": headers},
        {"type": "http.response.body", "body": b"{}", "more_body": False},
    ]
    wire = asyncio.run(asked(HttpProtocol, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2, answer, fails=False))
    assert len(wire.pieces) == 2
    assert not wire.closed_by_server
