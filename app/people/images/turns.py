"""Whose turn it is: a few people at a time, one turn each, in the order in which they came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from time import monotonic
from uuid import UUID

from actors.refusals import Overloaded

# The costliest honest images take less, where the machine has time for them.
LONG_SECONDS = 3.0
REST_FACTOR = 10


class Turns:
    """
    Hands out turns for work that costs more than other requests do.

    Nobody waits behind a person who asks for many: a second turn of the same person's is refused while the first one
    lasts or is waited for. At most `waiting_max` people wait, and nobody longer than `wait_seconds`. After a long turn
    a person rests for ten times as long, so that a few who come again and again don't have all the turns.
    """

    def __init__(self, *, count: int, waiting_max: int, wait_seconds: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._people_max = count + waiting_max
        self._wait_seconds = wait_seconds
        self._people: set[UUID] = set()
        self._resting: dict[UUID, float] = {}  # until when; whoever rests has had a long turn, so they are few

    @asynccontextmanager
    async def turn(self, user_id: UUID) -> AsyncIterator[None]:
        """
        Have a turn while the block runs.

        Raises:
            Overloaded: the person has one already or rests, too many wait, or it has taken too long.
        """
        rest_seconds = self._resting.get(user_id, 0.0) - monotonic()
        if rest_seconds > 0:
            refusal = Overloaded(f"Your last image took very long to read. Try again in {ceil(rest_seconds)} seconds.")
            refusal.headers = {"Retry-After": str(ceil(rest_seconds))}
            raise refusal
        if user_id in self._people:
            raise Overloaded("Your last image is still being read. Nothing has happened. Try again in a moment.")
        if len(self._people) >= self._people_max:
            raise Overloaded()
        self._people.add(user_id)
        try:
            await self._wait()
            began = monotonic()
            try:
                yield
            finally:
                self._free.release()
                self._rest(user_id, monotonic() - began)
        finally:
            self._people.discard(user_id)

    def _rest(self, user_id: UUID, seconds: float) -> None:
        now = monotonic()
        self._resting = {each: until for each, until in self._resting.items() if until > now}
        if seconds > LONG_SECONDS:
            self._resting[user_id] = now + REST_FACTOR * seconds

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded() from None
