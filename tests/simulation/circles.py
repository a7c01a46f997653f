"""
Reservations that wait for each other.

A wallet that was freed is kept for the process that missed it first. Two processes that have missed the same two
wallets may each be the first for another one: each waits for what is kept for the other. The retry after 20 ms, or the
reservation's end after 100, dissolves that. On a calm day neither comes, so that nothing but wake-ups brings work
forward; here the retry is made up for, where there is such a circle and nowhere else.
"""

import asyncio
from collections import defaultdict

from tests.simulation.town import Town

_LOOK_SECONDS = 0.5
_TIMES_MAX = 20


async def dissolve_circles(town: Town) -> None:
    """Look for them again and again; retry where one has lasted from one look to the next."""
    before: set[str] = set()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        circle = _circle(town.lock_server.keys())
        if circle and circle == before:
            town.circles += 1
            town.world.note("a circle:", *sorted(circle))
            if town.circles > _TIMES_MAX:
                town.world.find("circles without end:", *sorted(circle))
                return
            for branch in town.branches:
                retry = branch.locks._freed
                town.world.loop.call_soon(retry, tuple(branch.locks._retries), context=branch.process.context.copy())
        before = circle


def _circle(keys: dict[str, str]) -> set[str]:
    """The owners who wait, directly or not, for what is kept for themselves."""
    waits_for: defaultdict[str, set[str]] = defaultdict(set)
    for key, queue in keys.items():
        if key.endswith(":next") and key.removesuffix(":next") not in keys:
            first, *others = queue.split(",")
            for other in others:
                waits_for[other].add(first)
    return {owner for owner in waits_for if owner in _reached(owner, waits_for)}


def _reached(owner: str, waits_for: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    next_ones = {*waits_for[owner]}
    while next_ones:
        reached |= next_ones
        next_ones = {further for each in next_ones for further in waits_for.get(each, ())} - reached
    return reached
