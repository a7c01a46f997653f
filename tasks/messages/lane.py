"""A channel's messages on their way: several at a time, so that a slow one delays no more than its own place."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# How many are under way at once, and how long a run goes on taking more.
PLACES = 8
RUN_SECONDS = 45.0
# While some are still under way, what became due meanwhile is looked for so often.
LOOK_AGAIN_SECONDS = 1.0


class Lane(Generic[T]):
    """
    Takes what is due and sends it, in one run at a time.

    Each request asks for haste. If each were answered by a run of its own, a server that is silent would soon hold all
    of the worker's jobs; so who asks while a run is busy only makes it look again.
    """

    def __init__(self, take: Callable[[int], Awaitable[list[T]]]) -> None:
        self._take = take
        self._busy = False
        self._asked = asyncio.Event()

    async def run(self, send: Callable[[T], Coroutine[Any, Any, None]], stop: asyncio.Event | None) -> None:
        """
        Send until nothing is due, `stop` is set, or for `RUN_SECONDS`; return at once where another run is busy.

        Raises what `take` and `send` raise, after everything that was under way has ended.
        """
        self._asked.set()
        if self._busy:
            return
        self._busy = True
        try:
            await self._run(send, stop)
        finally:
            self._busy = False

    async def _run(self, send: Callable[[T], Coroutine[Any, Any, None]], stop: asyncio.Event | None) -> None:
        under_way: set[asyncio.Task[None]] = set()
        asked = asyncio.create_task(self._asked.wait())
        failure: BaseException | None = None
        more, ends_at = True, time.monotonic() + RUN_SECONDS
        try:
            while True:
                ended = failure is not None or time.monotonic() >= ends_at or (stop is not None and stop.is_set())
                if self._asked.is_set():
                    self._asked.clear()
                    asked, more = asyncio.create_task(self._asked.wait()), True
                if more and not ended and (room := PLACES - len(under_way)):
                    try:
                        taken = await self._take(room)
                    except Exception as error:  # noqa: BLE001 raised below, when those under way have ended
                        failure, taken = error, []
                    under_way |= {asyncio.create_task(send(each)) for each in taken}
                    more = len(taken) == room
                if not under_way:
                    if ended or failure or not (more or self._asked.is_set()):
                        break
                    continue
                done, _ = await asyncio.wait(
                    {*under_way, asked}, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                more = more or not done
                under_way -= done
                failure = next((e for each in done if (e := each.exception())), failure)
        finally:
            for each in (asked, *under_way):
                each.cancel()
            await asyncio.gather(asked, *under_way, return_exceptions=True)
        if failure:
            raise failure
