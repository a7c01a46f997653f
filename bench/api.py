"""The API as the product starts it, `wallet api --workers N`, on a free loopback port."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from msgspec import Struct

from app.proof.town import api_process
from bench.scratch import Scratch
from db.servers.process import LOOPBACK

# What may be turned from outside, to see what it does; everything else of the caller's environment stays out.
_TUNING = ("WALLET_BANK_", "WALLET_LOCKS_", "WALLET_LOG_", "WALLET_POOL_")


class Api(Struct, frozen=True, kw_only=True):
    """Where it listens, and the process above its processes."""

    host: str
    port: int
    pid: int
    log: Path


@contextmanager
def api(place: Scratch, *, processes: int, secret: str, name: str = "API") -> Iterator[Api]:
    """
    Run it as long as the block does; several at once have different names.

    The settings are those of a development machine, but that it logs as in production: lines for people take longer to
    write. The secret is given, so that tokens can be made beside it.

    Raises:
        EmbeddedError: it does not answer; with the end of its log.
    """
    settle_environment(place, secret)
    server = api_process(name, place.folder, workers=processes)
    try:
        server.start()
        assert server.port
        assert server.process
        yield Api(host=LOOPBACK, port=server.port, pid=server.process.pid, log=server.log)
    finally:
        server.stop()


def settle_environment(place: Scratch, secret: str) -> None:
    """Let this process and its children be configured for the scratch servers, and nothing else but `tuning`."""
    for name in [name for name in os.environ if name.startswith("WALLET_") and not name.startswith(_TUNING)]:
        del os.environ[name]
    os.environ |= {"DATABASE_URL": place.database_url, "REDIS_URL": place.redis_url, "WALLET_SECRET": secret}
    os.environ.setdefault("WALLET_LOG_FORMAT", "json")


def tuning() -> dict[str, str]:
    """The settings that the caller's environment turns."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_TUNING)}


class Batches(Struct, frozen=True):
    """What the bank's processes have counted since they started."""

    orders: float = 0
    batches: float = 0

    def orders_each(self, before: "Batches") -> float | None:
        """Orders in a batch on average since `before`; None where there was none."""
        batches = self.batches - before.batches
        return round((self.orders - before.orders) / batches, 1) if batches else None


def batches(served: Api) -> Batches:
    """The counts at this moment, of all processes together. They are up to a second old: `app/telemetry/metrics.py`."""
    with urlopen(f"http://{served.host}:{served.port}/metrics", timeout=30) as answer:
        told: str = answer.read().decode()
    orders, count = (
        sum(map(float, re.findall(rf"^wallet_batch_orders_{which}(?:{{.*}})? (\S+)$", told, re.MULTILINE)))
        for which in ("sum", "count")
    )
    return Batches(orders, count)
