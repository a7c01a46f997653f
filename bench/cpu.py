"""
How much processor time the parts take, in seconds, from Linux's `/proc`: where a transfer's time goes.

Unlike a rate it hardly depends on what else the machine is doing.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from bench.proc import family, processes


def seconds_used(parts: Mapping[str, int]) -> dict[str, float]:
    """
    The processor time so far of each process named, with its children but those that are named themselves.

    Nothing where there is no `/proc`.
    """
    seen, named = processes(), set(parts.values())
    if not seen:
        return {}
    return {
        name: sum(process.cpu_seconds for process in family(pid, seen, without=named).values())
        for name, pid in parts.items()
    }


def microseconds_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """What each part has used between two looks, for one of `count` things done meanwhile."""
    return {name: round((after[name] - before[name]) * 1e6 / max(count, 1), 1) for name in after}


def cores_busy(seconds: float = 0.5) -> float:
    """How many cores have been at work in a moment of looking; outside of Linux, in the last minute on average."""
    if not _STAT.exists():
        return os.getloadavg()[0]
    before, started_at = _ticks_busy(), time.monotonic()
    time.sleep(seconds)
    return (_ticks_busy() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - started_at)


_STAT = Path("/proc/stat")


def _ticks_busy() -> int:
    user, nice, system, _idle, _waits_for_disk, *others = map(int, _STAT.read_text().split("\n", 1)[0].split()[1:])
    return (
        user + nice + system + sum(others[:2])
    )  # interrupts; what guests had is in `user`, what hosts took was not ours
