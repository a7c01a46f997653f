"""
How much processor time the parts take, in seconds, from Linux's `/proc`: where a transfer's time goes.

Unlike a rate it hardly depends on what else the machine is doing.
"""

from collections.abc import Mapping

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
        name: sum(process.cpu_seconds for process in family(pid, seen, without=named)) for name, pid in parts.items()
    }


def microseconds_each(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """What each part has used between two looks, for one of `count` things done meanwhile."""
    return {name: round((after[name] - before[name]) * 1e6 / max(count, 1), 1) for name in after}
