"""Whose turn it is: a few people at a time, one turn each, in the order in which they came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from actors.refusals import Overloaded


class Turns:
    """
    Hands out turns for work that costs more than other requests do.

    Nobody waits behind a person who asks for many: a second turn of the same person's is refused while the first one
    lasts or is waited for. At most `waiting_max` people wait, and nobody longer than `wait_seconds`.
    """

    def __init__(self, *, count: int, waiting_max: int, wait_seconds: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._people_max = count + waiting_max
        self._wait_seconds = wait_seconds
        self._people: set[UUID] = set()

    @asynccontextmanager
    async def turn(self, user_id: UUID) -> AsyncIterator[None]:
        """
        Have a turn while the block runs.

        Raises:
            Overloaded: the person has one already, too many wait, or it has taken too long.
        """
        if user_id in self._people:
            raise Overloaded("Your last image is still being read. Nothing has happened. Try again in a moment.")
        if len(self._people) >= self._people_max:
            raise Overloaded()
        self._people.add(user_id)
        try:
            await self._wait()
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._people.discard(user_id)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded() from None
