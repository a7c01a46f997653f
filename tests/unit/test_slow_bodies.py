"""How long a body may take to arrive, whatever its sender makes of the rules: on a clock of our own."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from app.server.bounds import BYTES_PER_SECOND_MIN, Bounds
from app.server.protocol import HttpProtocol
from tests.helpers.wire import Wire

SECONDS = 20
KIBIBYTE = 1024
BODY = 5 * 1024 * KIBIBYTE
# All that a body of this size may take: at the least rate, and one time more.
LONGEST = BODY / BYTES_PER_SECOND_MIN + SECONDS + 2
HEAD = b"PATCH / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % BODY
CHUNKED = b"PATCH / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


async def read_all(_scope: Any, receive: Any, send: Any) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def seconds_taken(
    pieces: Iterator[bytes],
    wire: Wire,
    *,
    app: Any = read_all,
    head: bytes = HEAD,
    each_second: Callable[[int], None] = lambda _: None,
) -> int:
    """Send a piece in each second: after how many of them the connection is closed, or the request answered."""
    config = Config(app, http=HttpProtocol, ws="none", access_log=False, log_config=None, log_level=60)
    config.load()
    state = ServerState()
    connection = HttpProtocol.within(Bounds(request_seconds=SECONDS))(config, state, {})
    connection.connection_made(wire)
    connection.data_received(head)
    try:
        for second, piece in enumerate(pieces):
            each_second(second)
            connection.data_received(piece)
            for _ in range(4):
                await asyncio.sleep(0)
            connection.hang_up_if_slow(1000.0 + second)
            if wire.closed or (not state.tasks and app is read_all):
                return second
    finally:
        connection.connection_lost(None)
        if state.tasks:
            await asyncio.wait(state.tasks)
    raise AssertionError("it goes on for ever")


def dripping(*first: int) -> Iterator[bytes]:
    """These many bytes in the first seconds, then one in each, and never the last."""
    return chain((b"x" * size for size in first), repeat(b"x", BODY - sum(first) - 1))


@pytest.mark.parametrize("first", [[], [1], [64 * KIBIBYTE], [BODY // 2], [BODY - 100_000], [64 * KIBIBYTE] * 70])
async def test_bytes_that_came_early_buy_no_seconds_later(first: list[int]) -> None:
    wire = Wire()
    assert await seconds_taken(dripping(*first), wire) <= len(first) + 2 * SECONDS + 2
    assert wire.said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"2\r\nxx\r\n"])
async def test_chunks_that_drip_are_cut_too(chunk: bytes) -> None:
    wire = Wire()
    assert await seconds_taken(repeat(chunk, 10_000), wire, head=CHUNKED) <= SECONDS + 2
    assert wire.said.startswith(b"HTTP/1.1 408 ")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 200 * KIBIBYTE), min_size=1, max_size=40))
def test_whatever_the_rhythm_a_body_takes_no_longer_than_at_the_least_rate(rhythm: list[int]) -> None:
    def pieces() -> Iterator[bytes]:
        left = BODY - 1
        for place in range(10_000):
            size = min(max(1, rhythm[place % len(rhythm)]), left)
            left -= size
            yield b"x" * size

    wire = Wire()
    assert asyncio.run(seconds_taken(pieces(), wire)) <= LONGEST
    assert wire.said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("pause", [1, 2, 5, 8])
async def test_a_phone_on_a_slow_network_is_let_through(pause: int) -> None:
    """256 kbit/s on average, with pauses of so many seconds."""

    def pieces() -> Iterator[bytes]:
        left = BODY
        while left:
            yield from repeat(b"", pause - 1)
            size = min(left, pause * 256_000 // 8)
            left -= size
            yield b"x" * size

    wire = Wire()
    assert await seconds_taken(pieces(), wire) < LONGEST
    assert wire.said.startswith(b"HTTP/1.1 200 ")


async def test_who_reads_slowly_may_not_send_slowly() -> None:
    wire = Wire()

    def read_a_little(second: int) -> None:
        wire.unread = 60_000 - second

    assert await seconds_taken(repeat(b"x", 10_000), wire, each_second=read_a_little) <= SECONDS + 2


async def test_who_reads_nothing_is_cut() -> None:
    wire = Wire()

    def read_nothing(_: int) -> None:
        wire.unread = 60_000

    assert await seconds_taken(repeat(b"x" * 50_000, 50), wire, each_second=read_nothing) <= SECONDS + 2


@pytest.mark.parametrize("size", [1, 50_000, 150_000])
async def test_what_follows_a_refusal_is_not_read_for_long(size: int) -> None:
    wire = Wire()
    pieces = repeat(b"x" * size, 10_000 if size == 1 else BODY // size - 1)
    assert await seconds_taken(pieces, wire, app=refuse) <= 2 * SECONDS + 2
    assert wire.said.count(b"HTTP/1.1 ") == 1, "it has been answered"
