"""`wallet api`: one HTTP process, from its first question to the database to its last answer."""

import asyncio
import gc
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.settings import Settings

GRACE_SECONDS = 20
# Proxies keep idle connections for a minute at most, as a rule. Whoever closes first must not be us: the next request
# may be on its way already.
KEEP_ALIVE_SECONDS = 75


def serve_http(settings: "Settings", listener: socket.socket) -> None:
    """
    Answer requests until SIGTERM or Ctrl-C; those that were accepted by then are finished first.

    Raises what `check_servers` and `check_schema` do: a sentence can be made of it, and of what uvicorn says of a start
    that failed none.
    """
    import uvicorn

    from app.commands.servers import check_servers
    from app.main import create_app
    from app.server.addresses import ForwardedFor
    from app.server.bounds import Bounds
    from app.server.descriptors import make_room
    from app.server.graceful import GracefulServer
    from app.server.protocol import HttpProtocol
    from db.migrate import check_schema

    asyncio.run(check_servers(settings))
    asyncio.run(check_schema(settings.pool.connect_timeout_seconds))
    app = create_app(settings)
    bounds = Bounds(
        request_seconds=settings.http.request_seconds, connections_max=make_room(settings.http.connections_max)
    )
    config = uvicorn.Config(
        ForwardedFor(app, settings.http.proxies) if settings.http.proxies else app,
        loop="uvloop",
        http=HttpProtocol.within(bounds),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # its lines come out as all others do
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # ours knows addresses in both forms
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
        config, linger_seconds=settings.http.linger_seconds, at_first_signal=app.state.health_checks.say_stopping
    )
    server.run(sockets=[listener])


def longest_farewell(settings: "Settings") -> float:
    """The seconds after which a process that was told to stop has surely come to an end by itself."""
    return settings.http.linger_seconds + GRACE_SECONDS + settings.bank.drain_seconds + 10
