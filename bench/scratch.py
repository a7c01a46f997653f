"""A place of its own for a benchmark: a folder, PostgreSQL and Valkey with durable settings; nothing stays behind."""

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from msgspec import Struct

from db.migrate import migrate
from db.servers.embedded import embedded_servers
from db.servers.process import Server

_REMOVAL_SECONDS = 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Scratch(Struct, frozen=True, kw_only=True):
    """The folder, and where its servers are. The database is migrated, and this process's engine points to it."""

    folder: Path
    database_url: str
    redis_url: str
    servers: tuple[Server, ...]

    @property
    def server_pids(self) -> dict[str, int]:
        """The process of each at this moment."""
        return {server.name: server.process.pid for server in self.servers if server.process}


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Scratch]:
    """
    Run servers in a new folder under `parent` (the system's temporary one) as long as the block does; then remove it.

    They flush each commit to disk, as those of `wallet serve` do. Call it from the main thread.

    Raises:
        EmbeddedError: a server does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="wallet-bench-", dir=parent))
    outside: Path | None = None
    try:
        folder.chmod(0o711)  # root's servers run as another user, who has to get through
        with embedded_servers(folder) as servers:
            if folder.resolve() not in servers.folder.parents:
                outside = servers.folder  # that user could not get here all the same
            assert servers.database_url
            assert servers.redis_url
            asyncio.run(migrate(servers.database_url))
            yield Scratch(
                folder=folder,
                database_url=servers.database_url,
                redis_url=servers.redis_url,
                servers=servers.running,
            )
    finally:
        for used in filter(None, (outside, folder)):
            _remove(used)


def _remove(folder: Path) -> None:
    """More than once where that takes it: a child of an interrupted initdb writes on for a moment."""
    give_up_at = time.monotonic() + _REMOVAL_SECONDS
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > give_up_at:
            return
        time.sleep(0.1)


def leave_on_signals() -> None:
    """Have the first Ctrl-C, SIGTERM or SIGHUP leave through every `finally`; later ones don't disturb that."""

    def leave(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in _SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as under nohup
            signal.signal(each, leave)
