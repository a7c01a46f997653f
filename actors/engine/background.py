"""Work that goes on beside the requests: begun in a context of its own, and ended for certain."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context

from actors.engine.trouble import Trouble

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.2


@asynccontextmanager
async def in_background(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """
    Do each of these again and again for as long as the block runs.

    Whatever goes wrong does not stop the work: it is said once, and the work goes on after a pause, which grows to some
    seconds while it fails. Each has a fresh context: a task born inside a transaction would inherit it, and use it
    after its end.
    """
    tasks = [asyncio.create_task(_again_and_again(work), context=Context()) for work in works]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: list["asyncio.Task[None]"]) -> None:
    """
    Cancel these tasks until they are done.

    Once is not always enough: `asyncio.wait_for` of Python 3.11, through which redis-py sends, loses a cancellation
    that comes just when the inner call is done.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PATIENCE_SECONDS)


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    trouble = Trouble(log, _name(work))
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the work is needed
            await asyncio.sleep(trouble.met(error))
        else:
            trouble.over()


def _name(work: Callable[[], Awaitable[None]]) -> str:
    return str(getattr(getattr(work, "func", work), "__qualname__", "work in the background"))
