"""Clients that are slow on purpose: nobody else notices, and they are gone in the end."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wallet_processes import RealServer, server

HEAD = b"POST /users/token/create/ HTTP/1.1\r\nHost: wallet.test\r\nContent-Type: application/json\r\n"
CONNECTIONS_MAX = 150


def running(folder: Path, database_url: str, redis_url: str, *, seconds: int) -> Iterator[RealServer]:
    """One that waits for so many seconds, and takes 150 connections."""
    bounds = {"WALLET_HTTP_REQUEST_SECONDS": str(seconds), "WALLET_HTTP_CONNECTIONS_MAX": str(CONNECTIONS_MAX)}
    addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with server("api", folder=folder, **bounds, **addresses) as api:
        api.wait_until_live()
        yield api


@pytest.fixture
def api(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
    yield from running(tmp_path, database_url, redis_url, seconds=1)


@pytest.fixture
def patient_api(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
    """Whoever is cut off here has not been too slow."""
    yield from running(tmp_path, database_url, redis_url, seconds=3600)


def connect(api: RealServer, first: bytes = b"") -> socket.socket:
    """A connection over which something has been sent."""
    connection = socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=GIVE_UP_SECONDS)
    connection.sendall(first)
    return connection


def said_until_closed(connection: socket.socket) -> bytes:
    """Everything the server says before it hangs up; a server that never does fails the test."""
    said = b""
    try:
        while more := connection.recv(65536):
            said += more
    except ConnectionResetError:
        pass
    return said


def send_until_cut(connection: socket.socket, piece: bytes) -> None:
    """Send the same again and again, until nobody takes it any more."""
    with suppress(ConnectionResetError, BrokenPipeError):
        for _ in range(100_000):
            connection.sendall(piece)
        raise AssertionError("it takes whatever comes")


def test_a_hundred_that_never_finish_hold_nobody_up_and_are_gone(api: RealServer) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(connect(api))) for _ in range(40)]
        heads = [stack.enter_context(closing(connect(api, HEAD + b"X-Slow: "))) for _ in range(30)]
        begun = HEAD + b"X-Request-ID: mine\r\nContent-Length: 9\r\n\r\n{"
        bodies = [stack.enter_context(closing(connect(api, begun))) for _ in range(30)]
        assert httpx.get(f"{api.url}/health/live", timeout=GIVE_UP_SECONDS).status_code == 200
        assert [said_until_closed(each) for each in (*silent, *heads)] == [b""] * 70
        for each in bodies:
            head, _, body = said_until_closed(each).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"\r\ncontent-type: application/problem+json\r\n" in head
            assert b"\r\nx-request-id: mine" in head
            assert b'"code":"request_timeout"' in body
    assert httpx.get(f"{api.url}/health/live", timeout=GIVE_UP_SECONDS).status_code == 200


def drip_until_cut(connection: socket.socket) -> None:
    """Send byte after byte, until nobody takes them any more."""
    with suppress(ConnectionResetError, BrokenPipeError):
        connection.settimeout(0.05)
        for _ in range(GIVE_UP_SECONDS * 20):
            try:
                connection.sendall(b"x")
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue
        raise AssertionError("it is still connected")


def test_who_lets_drip_byte_after_byte_is_cut(subtests: pytest.Subtests, api: RealServer) -> None:
    for name, first in {"head": HEAD, "body": HEAD + b"Content-Length: 60000\r\n\r\n"}.items():
        with subtests.test(msg=name), closing(connect(api, first)) as connection:
            drip_until_cut(connection)


def test_a_body_that_keeps_coming_may_take_longer(api: RealServer) -> None:
    size = 60_000  # 24 kB/s, half as fast again as the least
    with closing(connect(api, HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size)) as connection:
        for _ in range(10):
            connection.sendall(b"x" * (size // 10))
            threading.Event().wait(0.25)  # two and a half seconds in all, of the one that it may take without coming
        connection.settimeout(GIVE_UP_SECONDS)
        assert said_until_closed(connection).startswith(b"HTTP/1.1 400 ")


def test_who_stops_reading_is_cut(api: RealServer) -> None:
    asked = b"GET /docs/openapi.json HTTP/1.1\r\nHost: wallet.test\r\n\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with closing(connection):
        connection.settimeout(GIVE_UP_SECONDS)
        connection.connect(("127.0.0.1", int(api.url.rsplit(":", 1)[1])))
        connection.sendall(asked * 400)
        # The answers fill what the kernel holds, then the server cuts the connection: sending fails, unread as all is.
        connection.settimeout(None)
        send_until_cut(connection, asked * 1000)


def test_there_are_so_many_connections_and_no_more(api: RealServer) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(closing(connect(api, b"GET /health/live"))) for _ in range(CONNECTIONS_MAX)]
        said = said_until_closed(stack.enter_context(closing(connect(api))))
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in said
        assert b"\r\nx-request-id: " in said
        assert [said_until_closed(each) for each in kept] == [b""] * CONNECTIONS_MAX
    assert httpx.get(f"{api.url}/health/live", timeout=GIVE_UP_SECONDS).status_code == 200


def said_to(api: RealServer, head: bytes) -> bytes:
    """What the server says to this head until it hangs up; nothing, where it does so while there is more to send."""
    with closing(connect(api)) as connection:
        try:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: wallet.test\r\n" + head)
        except (ConnectionResetError, BrokenPipeError):
            return b""
        return said_until_closed(connection)


def test_a_head_that_is_too_large_is_refused(subtests: pytest.Subtests, patient_api: RealServer) -> None:
    for name, head in {
        "endless": b"X: " + b"x" * 1_000_000,
        "many": b"".join(b"X-%d: x\r\n" % number for number in range(10_000)),
        "a few too many": b"".join(b"X-%d: x\r\n" % number for number in range(101)) + b"\r\n",
        "a little too large": b"X: " + b"x" * 33_000 + b"\r\n\r\n",
    }.items():
        with subtests.test(msg=name):
            said = said_to(patient_api, head)
            assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
    with closing(connect(patient_api, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 30_000 + b"\r\n\r\n")) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")


def test_a_payments_answer_is_not_given_by_the_nonsense_behind_it(patient_api: RealServer) -> None:
    asked = b"GET /health/live HTTP/1.1\r\nHost: wallet.test\r\n\r\n"
    with closing(connect(patient_api, asked + b"nonsense\r\n\r\n")) as connection:
        said = said_until_closed(connection)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.count(b"HTTP/1.1") == 1
        assert b"\r\nconnection: close\r\n" in said


def test_trailers_without_end_are_refused(patient_api: RealServer) -> None:
    with closing(connect(patient_api, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")) as connection:
        send_until_cut(connection, b"X-More: " + b"x" * 1000 + b"\r\n")


def test_many_requests_at_once_are_no_large_head(patient_api: RealServer) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: wallet.test\r\nX-Pad: " + b"x" * 900 + b"\r\n\r\n"
    last = one.replace(b"Host", b"Connection: close\r\nHost")
    with closing(connect(patient_api, one * 100 + last[:500])) as connection:
        said = connection.recv(100)  # the first has been read, and with it a part of the last
        connection.sendall(last[500:])
        said += said_until_closed(connection)
    assert said.count(b"HTTP/1.1 200 ") == 101
