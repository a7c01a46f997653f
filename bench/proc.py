"""A look at the machine's processes through Linux's `/proc`: whose child each is, and what it uses."""

import os
import sys
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

_MIB = 1024 * 1024


class Seen(Struct, frozen=True):
    """A process, as `/proc` shows it."""

    parent: int
    cpu_seconds: float  # so far, with that of children that have ended
    memory_mib: float  # resident


def processes() -> dict[int, Seen]:
    """All processes by their ids; none where there is no `/proc`."""
    if sys.platform != "linux":
        return {}
    found = {}
    second, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended since
            # The name, in brackets, may hold anything; behind it come the fields of proc(5), from the third one on.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks, pages = sum(map(int, fields[11:15])), int(fields[21])
            found[int(folder.name)] = Seen(int(fields[1]), ticks / second, pages * page / _MIB)
    return found


def family(pid: int, seen: dict[int, Seen], *, without: Collection[int] = ()) -> dict[int, Seen]:
    """A process and all below it, by their ids, but for those `without` and what is below them."""
    children = defaultdict[int, list[int]](list)
    for child, process in seen.items():
        children[process.parent].append(child)
    found, to_do = {}, [pid]
    while to_do:
        each = to_do.pop()
        if each in seen:
            found[each] = seen[each]
        to_do += [child for child in children[each] if child not in without]
    return found


def largest_mib(pid: int) -> float:
    """The resident memory, in MiB, of the largest process of a family; 0 where there is no `/proc`."""
    return max((process.memory_mib for process in family(pid, processes()).values()), default=0.0)


def peak_mib() -> float:
    """The most resident memory, in MiB, that this process has had; 0 where there is no `/proc`."""
    status = Path("/proc/self/status")
    # Not getrusage(): that counts what the parent had when it started us.
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)
