"""How many payments one person may ask for in a minute, over all processes, without asking anybody while they wait."""

import logging
from asyncio import sleep, timeout
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from time import monotonic
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.background import in_background
from actors.engine.redis_client import redis_fault
from actors.engine.seldom import Seldom
from app.limits.requests import COUNT_SECONDS, RateLimited, limit_key
from app.limits.room import make_room
from app.limits.windows import WINDOWS

log = logging.getLogger(__name__)

POLICY = "payments-per-user"
WINDOW_SECONDS = 60
# The most that another process lets through without our knowing is what it counts in so long.
TELL_SECONDS = 0.25
# A process keeps this share of the limit to itself before it tells: an ordinary person's payments never cost a
# question to Redis, and each process adds no more than this to what may be too many.
UNTOLD_SHARE = 1000
USERS_MAX = 50_000
_TOLD_AT_ONCE = 100  # so many in one pipeline: it holds up the event loop for a few milliseconds

_COUNT = f"""{WINDOWS}
forget_if_it_outlasts(KEYS[1], ARGV[2])
return {{redis.call('INCRBY', KEYS[1], ARGV[1]), ms_left(KEYS[1], ARGV[2])}}
"""


class _Tally:
    """What one user has asked for in this window, as far as this process knows; `untold` is a part of `used`."""

    __slots__ = ("ends_at", "untold", "used", "user_id")

    def __init__(self, user_id: UUID, ends_at: float) -> None:
        self.user_id = user_id
        self.ends_at = ends_at
        self.used = self.untold = 0


class PaymentLimits:
    """
    Counts payments in this process, and now and then adds them up with what the other processes have counted.

    A payment is refused once `most` are known to have been asked for in the window, which begins with the first that
    is told. In one process that is exact. With several, a user can get through what the others count until they tell
    each other (`TELL_SECONDS`, and below a thousandth of the limit they don't), and a bulk that begins below the limit
    is let through whole. What is refused is not counted, what is replayed under an idempotency key is.

    Without Redis each process goes on by its own count, and a user for whose count there is no room is refused. 0
    switches it off.
    """

    def __init__(self, redis: Redis, most: int, *, window_seconds: int = WINDOW_SECONDS) -> None:
        self._redis = redis
        self._most = most
        self._window_seconds = window_seconds
        self._tell_from = max(most // UNTOLD_SHARE, 1)
        # By user, oldest first: a window ends at the latest when two have passed since.
        self._tallies: dict[UUID, _Tally] = {}
        self._to_tell: set[_Tally] = set()
        self._is_alone = False
        self._alone = Seldom(log, "payments are limited by each process alone: Redis %s")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell and learn as long as the block runs."""
        if not self._most:
            yield
            return
        async with in_background(self._tell_later):
            yield

    def count(self, user_id: UUID, payments: int = 1) -> None:
        """
        Count what a user is about to ask of the bank. It is on the path of every payment, and waits for nothing.

        Raises:
            RateLimited: the user has had as many as there may be.
            Uncountable: there is no room to count the user's payments.
        """
        tally = self._tallies.get(user_id)
        if tally is None:
            if not self._most:
                return
            tally = self._begin(user_id)
        if tally.used >= self._most:
            tally = self._begin_anew_or_refuse(tally)
        tally.used += payments
        tally.untold += payments
        if tally.untold >= self._tell_from:
            self._to_tell.add(tally)

    async def tell(self) -> None:
        """Add to Redis what has been counted since the last time, and learn what all have counted by now."""
        self._forget_what_is_over()
        to_tell, self._to_tell = self._to_tell, set()
        waiting = iter(to_tell)
        while some := list(islice(waiting, _TOLD_AT_ONCE)):
            try:
                await self._tell(some)
                self._is_alone = False
            except (RedisError, OSError) as error:
                self._is_alone = True
                # Perhaps it was counted and only the answer got lost: rather twice than not at all.
                self._to_tell.update(tally for tally in (*some, *waiting) if self._tallies.get(tally.user_id) is tally)
                self._alone.warn(redis_fault(error))

    async def _tell_later(self) -> None:
        await sleep(TELL_SECONDS)
        await self.tell()

    async def _tell(self, tallies: list[_Tally]) -> None:
        untold = [tally.untold for tally in tallies]
        async with timeout(COUNT_SECONDS), self._redis.pipeline(transaction=False) as pipe:
            for tally, payments in zip(tallies, untold, strict=True):
                key = limit_key(POLICY, str(tally.user_id))
                pipe.eval(_COUNT, 1, key, str(payments), str(self._window_seconds * 1000))
            replies = await pipe.execute()
        now = monotonic()
        for tally, payments, (total, left_ms) in zip(tallies, untold, replies, strict=True):
            tally.untold -= payments
            tally.used = total + tally.untold
            tally.ends_at = now + left_ms / 1000

    def _begin(self, user_id: UUID) -> _Tally:
        if len(self._tallies) >= USERS_MAX:
            self._make_room()
        tally = self._tallies[user_id] = _Tally(user_id, monotonic() + self._window_seconds)
        return tally

    def _make_room(self) -> None:
        """Forget the oldest, which tells what matters and will learn of it again: as long as there is who is told."""
        now = monotonic()
        gone = make_room(
            self._tallies, lambda tally: tally.ends_at <= now or not (self._is_alone and tally in self._to_tell)
        )
        if gone.ends_at <= now:
            self._to_tell.discard(gone)

    def _begin_anew_or_refuse(self, tally: _Tally) -> _Tally:
        left = tally.ends_at - monotonic()
        if left > 0:
            raise RateLimited(POLICY, most=self._most, window_seconds=self._window_seconds, wait_seconds=int(left) + 1)
        self._forget(tally)
        return self._begin(tally.user_id)

    def _forget_what_is_over(self) -> None:
        now = monotonic()
        while self._tallies and (oldest := next(iter(self._tallies.values()))).ends_at <= now:
            self._forget(oldest)

    def _forget(self, tally: _Tally) -> None:
        self._tallies.pop(tally.user_id, None)
        self._to_tell.discard(tally)
