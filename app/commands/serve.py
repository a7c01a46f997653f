"""`wallet serve` and `wallet api --workers N`: everything in its order, up and down again."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from msgspec.structs import replace

from app.commands.api import longest_farewell
from app.commands.servers import check_servers
from app.commands.startup import warn_of_unproven_phones
from app.logs.setup import configure_logs
from app.server.sockets import listen
from app.server.supervisor import Child, supervise
from app.settings import Settings, load_settings
from app.telemetry.shared_metrics import shared_metrics
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers

FOLDER = Path(".wallet")
HOST = "127.0.0.1"
REVIVE_SECONDS = 1.0

_log = logging.getLogger(__name__)


def serve(*, port: int, workers: int) -> None:
    """
    Run servers, migrations, `workers` API processes and one task worker until told to stop.

    Raises:
        SettingsError, PortTaken, EmbeddedError, MigrationError, GivenUp: nothing is left running.
    """
    settings = load_settings(os.environ, needs=())
    configure_logs(settings.log, production=not settings.development)
    warn_of_unproven_phones(settings)
    _exit_on_signals()
    with (
        _listening(HOST, port, workers) as listeners,
        embedded_servers(FOLDER, postgres=not settings.database_url, redis=not settings.redis_url) as servers,
    ):
        url = f"http://{HOST}:{listeners[0].getsockname()[1]}"
        addresses = {
            "DATABASE_URL": settings.database_url or servers.database_url or "",
            "REDIS_URL": settings.redis_url or servers.redis_url or "",
        }
        with _addresses_file(addresses), shared_metrics(FOLDER / "metrics") as metrics:
            environ = {"WALLET_PUBLIC_URL": url} | os.environ | addresses | metrics
            asyncio.run(_run(settings, servers, listeners, url, environ))


def serve_api(*, host: str, port: int, workers: int) -> None:
    """Run `workers` API processes on one port until told to stop, against DATABASE_URL and REDIS_URL."""
    settings = load_settings(os.environ)
    _exit_on_signals()
    with _listening(host, port, workers) as listeners, shared_metrics() as metrics:
        children = _api_children(settings, listeners, os.environ | metrics)
        asyncio.run(supervise([children], at_stop=partial(_close, listeners)))


async def _run(
    settings: Settings, servers: Servers, listeners: list[socket.socket], url: str, environ: dict[str, str]
) -> None:
    await check_servers(replace(settings, database_url=environ["DATABASE_URL"], redis_url=environ["REDIS_URL"]))
    await migrate(environ["DATABASE_URL"])

    async def announce() -> None:
        await _until_live(url)
        if settings.log.as_json(production=not settings.development):
            _log.info("The wallet is running.", extra={"url": url})
        else:
            click.echo(_banner(settings, servers, url))

    async def revive() -> None:
        while True:
            await asyncio.sleep(REVIVE_SECONDS)
            for name in servers.revive():
                _log.warning("%s had died and was started again.", name)

    groups = [_api_children(settings, listeners, environ), [Child("worker", ["worker", "--supervised"], environ)]]
    # Closed here as well, so that nobody new waits behind a socket where no one will answer.
    await supervise(groups, announce, revive, at_stop=partial(_close, listeners))


def _api_children(settings: Settings, listeners: list[socket.socket], environ: dict[str, str]) -> list[Child]:
    """One for each socket, which stays open here too: whoever connects to a child that died waits for the next."""
    fds = [listener.fileno() for listener in listeners]
    stop_seconds = longest_farewell(settings)
    return [Child("API", ["api", "--fd", str(fd)], environ, fds=(fd,), stop_seconds=stop_seconds) for fd in fds]


@contextmanager
def _listening(host: str, port: int, processes: int) -> Iterator[list[socket.socket]]:
    listeners = listen(host, port, processes=processes)
    try:
        yield listeners
    finally:
        _close(listeners)


def _close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def _exit_on_signals() -> None:
    """Before the supervisor listens to signals itself, SIGTERM and SIGHUP leave through every `finally` on the way."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(0))


@contextmanager
def _addresses_file(addresses: dict[str, str]) -> Iterator[None]:
    """`.wallet/env`, readable for its owner only, as long as the block runs."""
    file = FOLDER / "env"
    file.unlink(missing_ok=True)  # of one that was killed
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as out:
        out.writelines(f"{name}={value}\n" for name, value in addresses.items())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


async def _until_live(url: str) -> None:
    """Return once /health/live is answered. It waits as long as that takes: a child that fails ends it all."""
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                writer.close()
            if b" 200 " in status:
                return
        except (OSError, TimeoutError):
            pass
        await asyncio.sleep(0.05)


def _banner(settings: Settings, servers: Servers, url: str) -> str:
    rows = [("API", url), ("Documentation", f"{url}/docs")]
    if settings.development:
        rows.append(("Emails it sends", f"{url}/dev/mailbox/"))
    rows += [
        ("Try it", f"{Path(sys.argv[0]).with_name('wallet')} demo --url {url}"),
        ("Look inside", f"{FOLDER}/env has DATABASE_URL and REDIS_URL"),
    ]
    if servers.running:
        rows.append(("Data", str(servers.folder)))
    lines = [f"  {click.style(f'{name:<16}', dim=True)}{value}" for name, value in rows]
    return "\n".join(["", click.style("  The wallet is running. Ctrl-C stops it.", bold=True), "", *lines, ""])
