"""One HTTP process: a socket, the application behind it, and an end when its supervisor ends."""

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import threading
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from app.cors import check_origin

if TYPE_CHECKING:
    from app.settings import Settings

BACKLOG = 2048
GRACE_SECONDS = 20
# Proxies keep idle connections for a minute at most, as a rule. Whoever closes first must not be us: the next request
# may be on its way already.
KEEP_ALIVE_SECONDS = 75


class Http(Struct, frozen=True, kw_only=True):
    """How clients, proxies and the API get along."""

    trusted_proxies: str = ""
    """Addresses or networks, with commas between: their X-Forwarded-For and X-Forwarded-Proto are believed."""
    allowed_origins: str = ""
    """Exact origins with commas between, as https://shop.example: browsers let pages from there use the API."""
    request_seconds: Annotated[float, Meta(ge=1)] = 20
    """So long a request may take to arrive, and an answer to be read any further; a body longer, if it keeps coming."""
    connections_max: Annotated[int, Meta(ge=1)] = 10_000
    """Of one process; whoever comes beyond it is turned away."""
    linger_seconds: float = 0
    """How long a process that was told to stop still accepts requests, while /health/ready sends proxies elsewhere."""

    def __post_init__(self) -> None:
        """Raises `ValueError`, with the setting, where a proxy or origin is none: nobody would be trusted, or told."""
        for check, setting, parts in (
            (ip_network, "TRUSTED_PROXIES", self.proxies),
            (check_origin, "ALLOWED_ORIGINS", self.origins),
        ):
            for part in parts:
                try:
                    check(part)
                except ValueError as error:
                    raise ValueError(f"{setting}: {error}") from None

    @property
    def proxies(self) -> list[str]:
        """Each of the trusted addresses and networks."""
        return _parts(self.trusted_proxies)

    @property
    def origins(self) -> list[str]:
        """Each of the allowed origins."""
        return _parts(self.allowed_origins)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class PortTaken(Exception):
    """Nothing can listen there; the message is a sentence for people."""


def listen(host: str, port: int, *, processes: int = 1) -> list[socket.socket]:
    """
    Listening sockets on one port, one for each process. Whoever connects from now on waits until a process accepts.

    The kernel spreads connections over them by their addresses (SO_REUSEPORT). With one socket for all, the process
    that happens to be awake takes most of them: of 64 connections one of two processes was seen to get 62.

    Raises:
        PortTaken: somebody else listens there, or we may not.
    """
    # Asked first without sharing: otherwise a second `wallet` of the same user would join in unnoticed.
    first = _listen(host, port, shared=False)
    if processes == 1:
        return [first]
    port = first.getsockname()[1]
    first.close()
    return [_listen(host, port, shared=True) for _ in range(processes)]


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"Port {port} is taken: stop what uses it, or choose another port.") from None
        raise PortTaken(f"Nothing can listen on {host}, port {port}: {error.strerror}.") from None
    return listener


def serve_http(settings: "Settings", listener: socket.socket) -> None:
    """
    Answer requests until SIGTERM or Ctrl-C; those that were accepted by then are finished first.

    Raises what `db.look` does: a sentence can be made of it, and of what uvicorn says of a start that failed none.
    """
    import uvicorn

    from app.graceful_server import GracefulServer
    from app.http_bounds import Bounds
    from app.http_protocol import HttpProtocol
    from app.main import create_app
    from db.look import look

    asyncio.run(look(settings.pool.connect_timeout_seconds))
    app = create_app(settings)
    bounds = Bounds(request_seconds=settings.http.request_seconds, connections_max=settings.http.connections_max)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=HttpProtocol.within(bounds),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # its lines come out as all others do
        log_level="warning",
        server_header=False,
        proxy_headers=bool(settings.http.proxies),
        forwarded_allow_ips=settings.http.proxies,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # What exists by now lives as long as the process: the collector need not look at it again and again. And a batch
    # makes thousands of objects that are all gone with it, without a cycle among them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    # uvicorn raises the signal that stopped it once more when it is done: a wanted end, not a crash.
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: sys.exit(0))
    server = GracefulServer(
        config, linger_seconds=settings.http.linger_seconds, at_first_signal=app.state.lookout.say_stopping
    )
    server.run(sockets=[listener])


def longest_farewell(settings: "Settings") -> float:
    """The seconds after which a process that was told to stop has surely come to an end by itself."""
    return settings.http.linger_seconds + GRACE_SECONDS + settings.bank.drain_seconds + 10


def end_with_supervisor() -> None:
    """
    Die at once when the supervisor does, however it ends.

    Our standard input is a pipe that it holds open and never writes to, so the end of it is the end of the supervisor.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, name="end with supervisor", daemon=True).start()
