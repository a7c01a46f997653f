"""A few threads for work that would hold up the event loop, with a bounded queue in front of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from actors.refusals import Overloaded

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """
    Runs functions in threads of its own, so that hashing and files neither stop the loop nor each other.

    At most `waiting_max` calls wait for a thread; a further one is refused at once, since its answer would come too
    late to be of use.
    """

    def __init__(self, name: str, *, count: int, waiting_max: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._unfinished_max = count + waiting_max
        self._unfinished = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        What `work` returns or raises.

        Raises:
            Overloaded: too many calls are waiting already.
        """
        if self._unfinished >= self._unfinished_max:
            raise Overloaded()
        future = self._executor.submit(work, *args, **kwargs)
        self._unfinished += 1
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._unfinished -= 1

    def close(self) -> None:
        """Let running work end in its thread, and drop what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)
