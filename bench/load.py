"""What the API is loaded with, and what came of it."""

from pathlib import Path
from typing import Literal

from msgspec import Struct

# A request that takes longer counts as an error. Longer than the bank's own deadline, so that its 503 is seen first.
LATE_SECONDS = 15
ALL = 2**31

# Requests that `wrk.lua` and `client.py` know how to make. `bulk` and `atomic` are many transfers in one request.
Step = Literal["transfer", "deposit", "bulk", "atomic", "wallets", "history"]


class Shape(Struct, frozen=True, kw_only=True):
    """
    What is sent: `steps` in turn, each from a random wallet among the first `senders` of the file, and where it pays
    another one, 1.00 to a random other one among its first `receivers`. Each payment has an idempotency key of its own.

    1 of either makes a hot wallet.
    """

    steps: tuple[Step, ...] = ("transfer",)
    senders: int = ALL
    receivers: int = ALL
    items: int = 1  # transfers in a bulk
    query: str = "?limit=20"  # of each history

    def __post_init__(self) -> None:
        if max(self.senders, self.receivers) < 2 and {"transfer", "bulk", "atomic"} & set(self.steps):
            raise ValueError("one wallet has nobody to send to")


class Load(Struct, frozen=True, kw_only=True):
    """A shape, to whom, on how many connections at once and for how long. `holders` is from `write_holders`."""

    host: str
    port: int
    holders: Path
    connections: int
    seconds: int
    shape: Shape = Shape()


class Run(Struct, frozen=True, kw_only=True):
    """What came of it. `statuses` counts the answers that came in time to be read; latencies are of those."""

    seconds: float
    statuses: dict[str, int]
    broken: int  # connections refused or lost
    late: int  # requests not answered within LATE_SECONDS
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    sample: str = ""  # the body of the first answer that was neither a 200 nor a 201

    @property
    def created(self) -> int:
        """Answers that say that all money moved."""
        return self.statuses.get("201", 0)

    @property
    def good(self) -> int:
        """Answers that say that, or that show what was asked for."""
        return self.created + self.statuses.get("200", 0)

    @property
    def errors(self) -> int:
        """Whatever was neither a 200 nor a 201."""
        return sum(self.statuses.values()) - self.good + self.broken + self.late
