"""What all processes have counted together: each tells Redis its own count of a key, and learns those of the others."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextvars import Context
from secrets import token_hex
from time import monotonic

from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.background import end
from actors.engine.redis_client import redis_fault
from actors.engine.seldom import Seldom
from app.limits.tallies import Tally
from app.limits.windows import WINDOWS

log = logging.getLogger(__name__)

# So many in one pipeline: it holds up the event loop for a few milliseconds.
_TOLD_AT_ONCE = 100

# A key's hash has a field for each tally: what that tally has counted by now, not by how much it has grown. So what is
# told twice, because an answer was lost, counts once; and a Redis that has lost its data is told again. The tallies
# that nobody keeps share a field, which grows. The hash lives until the window of who told first ends.
_NOT_KEPT = "not kept"
_TELL = f"""{WINDOWS}
forget_if_it_outlasts(KEYS[1], ARGV[4])
local known = redis.call('HEXISTS', KEYS[1], ARGV[1])
if ARGV[1] == '{_NOT_KEPT}' then
    redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local left = ms_left(KEYS[1], ARGV[3])
local total = 0
for _, counted in ipairs(redis.call('HVALS', KEYS[1])) do total = total + counted end
return {{total, left, known}}
"""


class _Batch:
    """Tallies that are told together; `told` is whether they were."""

    def __init__(self) -> None:
        self.tallies: dict[Tally, None] = {}
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Totals:
    """
    Tells and learns over one connection: while one batch is on its way, the next one gathers, with each key in it once.

    So a thousand requests at once neither open a thousand connections nor make Redis late: it gets a few commands.
    """

    def __init__(self, redis: Redis, *, answer_seconds: float) -> None:
        self._redis = redis
        self._answer_seconds = answer_seconds
        self._process = token_hex(6)
        self._waiting: deque[_Batch] = deque()
        self._telling: asyncio.Task[None] | None = None
        self._asks_again_at = 0.0
        self._alone = Seldom(log, "requests are limited by each process alone: Redis %s")

    async def learn(self, tallies: Iterable[Tally]) -> bool:
        """
        Tell what these tallies have counted, and let them know what the others have; whether that was possible.

        It never takes longer than Redis may. A Redis that is late or gone is not asked again for as long.
        """
        batch = self.tell_soon(tallies)
        if batch is None:
            return False
        done, _ = await asyncio.wait([batch.told], timeout=self._answer_seconds)
        return bool(done) and batch.told.result()

    def tell_soon(self, tallies: Iterable[Tally]) -> _Batch | None:
        """Put these tallies into the next batch, which this is; None while Redis is not asked."""
        if monotonic() < self._asks_again_at:
            return None
        if not self._waiting or len(self._waiting[-1].tallies) >= _TOLD_AT_ONCE:
            self._waiting.append(_Batch())
        batch = self._waiting[-1]
        batch.tallies.update(dict.fromkeys(tallies))
        if self._telling is None or self._telling.done():
            # A task of its own: who waits may go away. In a context of its own, in which there is no transaction.
            self._telling = asyncio.create_task(self._tell_all(), context=Context())
        return batch

    async def close(self) -> None:
        """Tell nothing more; the client is closed by who made it."""
        if self._telling is not None:
            await end([self._telling])

    async def _tell_all(self) -> None:
        while self._waiting:
            batch = self._waiting.popleft()
            batch.told.set_result(await self._tell(list(batch.tallies)))

    async def _tell(self, tallies: list[Tally]) -> bool:
        if monotonic() < self._asks_again_at:
            return False
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._exchange(tallies)
        except (RedisError, OSError) as error:
            self._asks_again_at = monotonic() + self._answer_seconds
            self._alone.warn(redis_fault(error))
            return False
        return True

    async def _exchange(self, tallies: list[Tally]) -> None:
        told = [tally.own for tally in tallies]
        async with self._redis.pipeline(transaction=False) as pipe:
            for tally, own in zip(tallies, told, strict=True):
                field = f"{self._process}:{tally.number}" if tally.kept else _NOT_KEPT
                window_ms = tally.window_seconds * 1000
                pipe.eval(_TELL, 1, tally.key, field, str(own), str(tally.milliseconds_left), str(window_ms))
            replies = await pipe.execute()
        for tally, own, (total, left_ms, known) in zip(tallies, told, replies, strict=True):
            tally.learn(others=total - own, milliseconds_left=left_ms, known=bool(known))
