"""What everything in a simulation has in common: the seed, the time, what has happened, what was found to be wrong."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from random import Random
from typing import Any

from tests.simulation.loop import PROCESS, Process, VirtualLoop

BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)
_REMEMBERED = 500
_FINDINGS_MAX = 20
_STEPS_MAX = 400_000


class World:
    """One run of one seed. All chance is `chance`, all time is the loop's."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.loop = VirtualLoop(Random(seed + 0.5), steps_max=_STEPS_MAX)
        self.findings: list[str] = []
        self.last: deque[str] = deque(maxlen=_REMEMBERED)
        self._tell = tell
        self._digest = blake2b(digest_size=16)

    @property
    def now(self) -> datetime:
        """The time of day."""
        return BEGINNING + timedelta(seconds=self.loop.time())

    @property
    def digest(self) -> str:
        """What has happened, in one word: the same for the same seed."""
        return self._digest.hexdigest()

    def note(self, *words: Any) -> None:
        """Write down that something happens."""
        process = PROCESS.get(None)
        line = f"{self.loop.time():10.6f} {process.name if process else '':8} {' '.join(map(str, words))}"
        self._digest.update(f"{self.loop.steps} {line}\n".encode())
        self.last.append(line)
        if self._tell:
            self._tell(line)

    def find(self, *words: Any) -> None:
        """Something is wrong."""
        text = " ".join(map(str, words))
        self.note("FOUND", text)
        if len(self.findings) < _FINDINGS_MAX:
            self.findings.append(text)

    def later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Let something happen outside of all our processes."""
        self.loop.call_later(seconds, call, *arguments, context=self.loop.outside.context.copy())

    def happens(self, probability: float) -> bool:
        """Draw it."""
        return self.chance.random() < probability

    def between(self, least: float, most: float) -> float:
        """Any number in between; small ones are as likely as large ones on a scale of magnitudes."""
        return float(least * (most / least) ** self.chance.random())


async def until(holds: Callable[[], bool], *, every_seconds: float = 0.1) -> None:
    """Wait until it holds."""
    while not holds():  # noqa: ASYNC110 - looking costs no time where time is simulated
        await asyncio.sleep(every_seconds)


def here() -> Process:
    """The process that runs."""
    return PROCESS.get()
