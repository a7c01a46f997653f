"""`wallet api` as a child of this process, on a loopback port of its own: for whoever measures it or breaks it."""

import signal
import sys
from pathlib import Path

from db.servers.process import LOOPBACK, Server, ask


def api_process(name: str, folder: Path, *, workers: int = 1, environment: dict[str, str] | None = None) -> Server:
    """How to run it in `folder`, as the product starts it; in the present environment if none is given."""
    return Server(
        name=name,
        # -P, and a start in that folder: neither code nor `.env` of the present folder is taken for ours.
        command=[sys.executable, "-P", "-m", "app.cli", "api", "--workers", str(workers)],
        port_option="--port",
        folder=folder,
        ready=_is_live,
        stop_signal=signal.SIGTERM,
        environment=environment,
    )


def _is_live(port: int) -> bool:
    request = f"GET /health/live HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()
    return ask(port, request, enough=b"\r\n").startswith(b"HTTP/1.1 200")
