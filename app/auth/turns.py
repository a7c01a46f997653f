"""What changes a person or their wallets is done one after another, as far as one process goes; payments are not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

# Each takes milliseconds, unless somebody has locked a row of theirs.
WAIT_SECONDS = 1.0

_turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()


@asynccontextmanager
async def turn_of(user_id: UUID) -> AsyncIterator[None]:
    """
    Be the only one that changes this person while the block runs, before it asks for a connection.

    Where a row is locked, whoever needs it waits with a connection of the pool. One person's requests must not have all
    of them, however many they send.

    Raises:
        TimeoutError: others of theirs were before us, and were held up.
    """
    turn = _turns.get(user_id) or _turns.setdefault(user_id, asyncio.Lock())
    async with asyncio.timeout(WAIT_SECONDS):
        await turn.acquire()
    try:
        yield
    finally:
        turn.release()
