"""
How much processor time the parts take, in seconds, from Linux's `/proc`: where a transfer's time goes.

Unlike a rate it hardly depends on what else the machine is doing.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def seconds_used(parts: Mapping[str, int]) -> dict[str, float]:
    """
    The processor time so far of each process named, with its children but those that are named themselves.

    Nothing where there is no `/proc`.
    """
    if sys.platform != "linux":
        return {}
    own, children = {}, defaultdict[int, list[int]](list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended since
            # The name, in brackets, may hold anything; behind it come the fields of proc(5), from the third one on.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            pid, parent, ticks = int(folder.name), int(fields[1]), sum(map(int, fields[11:15]))
            own[pid] = ticks
            children[parent].append(pid)

    def with_children(pid: int) -> int:
        others = (child for child in children[pid] if child not in parts.values())
        return own.get(pid, 0) + sum(map(with_children, others))

    return {name: with_children(pid) / os.sysconf("SC_CLK_TCK") for name, pid in parts.items()}


def microseconds_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """What each part has used between two looks, for one of `count` things done meanwhile."""
    return {name: round((after[name] - before[name]) * 1e6 / max(count, 1), 1) for name in after}
