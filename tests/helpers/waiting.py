"""Waiting for what is about to happen, and giving up on what is not."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

GIVE_UP_SECONDS = 300


async def until(true: Callable[[], Awaitable[Any] | bool]) -> None:
    """Wait for something that is about to happen; five minutes without it fail the test."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            answer = true()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.005)


def eventually(what: Callable[[], bool]) -> bool:
    """Whether it becomes true before anyone loses patience."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while not what():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True
