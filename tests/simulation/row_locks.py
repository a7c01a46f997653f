"""Locks of rows and of unique ids, as PostgreSQL has them: first come, first served, until the transaction ends."""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterator

from asyncpg.exceptions import DeadlockDetectedError, LockNotAvailableError

from tests.simulation.lock_server import lose

LOCK_TIMEOUT_SECONDS = 0.5


class RowLocks:
    """Who holds what, and who waits for it. Holders are any objects."""

    def __init__(self) -> None:
        self.held: dict[Hashable, object] = {}
        self._queues: dict[Hashable, deque[tuple[object, asyncio.Future[None]]]] = {}
        self._waits_for: dict[int, Hashable] = {}

    async def take(self, holder: object, resource: Hashable) -> None:
        """
        Hold it until `release`.

        Raises:
            LockNotAvailableError: somebody else has held it for half a second.
            DeadlockDetectedError: whoever holds it waits for this holder.
        """
        if self.held.setdefault(resource, holder) is holder:
            return
        if any(each is holder for each in self._behind(resource)):
            raise DeadlockDetectedError("deadlock detected")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(resource, deque())
        queue.append((holder, turn))
        self._waits_for[id(holder)] = resource
        try:
            async with asyncio.timeout(LOCK_TIMEOUT_SECONDS):
                await turn
        except TimeoutError:
            if self.held.get(resource) is not holder:  # else it came at the last moment
                queue.remove((holder, turn))
                raise LockNotAvailableError("canceling statement due to lock timeout") from None
        finally:
            self._waits_for.pop(id(holder), None)

    def take_if_free(self, holder: object, resource: Hashable) -> bool:
        """Hold it until `release`, unless somebody else does: `SKIP LOCKED`."""
        return self.held.setdefault(resource, holder) is holder

    def release(self, holder: object, gone: Exception) -> None:
        """Let go of all; where the holder waits for more, `gone` is what it is told."""
        if (resource := self._waits_for.pop(id(holder), None)) is not None:
            for waiting in [each for each in self._queues[resource] if each[0] is holder]:
                self._queues[resource].remove(waiting)
                lose(waiting[1], gone)
        for resource in [resource for resource, by in self.held.items() if by is holder]:
            del self.held[resource]
            queue = self._queues.get(resource)
            while queue:
                following, turn = queue.popleft()
                if not turn.done():
                    self.held[resource] = following
                    turn.set_result(None)
                    break

    def _behind(self, resource: Hashable) -> Iterator[object]:
        """Who holds it, who holds what that one waits for, and so on."""
        wanted: Hashable | None = resource
        seen: set[Hashable] = set()  # others may stand in a circle already
        while wanted is not None and wanted not in seen and (holder := self.held.get(wanted)) is not None:
            seen.add(wanted)
            yield holder
            wanted = self._waits_for.get(id(holder))
