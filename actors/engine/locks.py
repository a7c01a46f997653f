"""
Take and release many wallets in Redis at once, with a fair hand-over between processes.

Redis is for liveness only: a lock keeps two processes from queueing on the same rows. What keeps the money right is the
row lock, so where Redis is slow, wrong or gone, every wallet counts as taken and work goes on.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from itertools import count
from secrets import token_hex
from typing import Annotated

from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine import signals
from actors.engine.background import in_background
from actors.engine.redis_client import redis_fault
from actors.engine.redis_connection import RedisConnection, load_script

log = logging.getLogger(__name__)

_TAKE, _RELEASE = load_script("take"), load_script("release")
_CHANNEL = "wallet:freed:"
# The ids of wallets end before it.
_NO_WALLET = 2**63
# If Redis fails again so soon after it was back, the next look at it waits twice as long, up to so many seconds.
_RELAPSE_SECONDS = 10.0
_PROBE_MAX_SECONDS = 5.0


class Lease(Struct, frozen=True, kw_only=True):
    """Redis locks of wallets: how long they last, and what happens when a process can't get one."""

    lease_seconds: float = 2.0
    """After this time the lock of a process that was killed or is frozen expires."""
    reservation_seconds: float = 0.1
    """How long a released wallet is reserved for the process that missed it."""
    retry_seconds: float = 0.02
    """Retry a missed wallet after this time, in case its wake-up is lost."""
    answer_seconds: float = 0.5
    """If Redis takes longer to answer, it counts as down."""
    probe_seconds: float = 0.5
    """How often to check whether Redis is back."""
    shards: Annotated[int, Meta(ge=1)] = 1
    """In a Redis Cluster: the number of hash slots that share the locks."""


class Locks:
    """This process's side of the locks."""

    def __init__(self, redis_url: str, lease: Lease) -> None:
        self.lease = lease
        self.degraded = False
        self._on_freed: Callable[[Iterable[int]], None] = lambda _: None
        # Nobody's take waits for somebody's release.
        self._taking = RedisConnection(redis_url, answer_seconds=lease.answer_seconds)
        self._releasing = RedisConnection(redis_url, answer_seconds=lease.answer_seconds)
        self._listener: Redis = Redis.from_url(
            redis_url, socket_timeout=lease.answer_seconds, socket_connect_timeout=lease.answer_seconds
        )
        self._owner = token_hex(8)
        self._lease_ms = int(lease.lease_seconds * 1000)
        self._reserve_ms = int(lease.reservation_seconds * 1000)
        self._numbers = count(1)
        self._retries: dict[int, asyncio.TimerHandle] = {}
        self._asked: set[int] = set()  # wallets that Redis is being asked for
        self._woken: set[int] = set()  # those of them whose wake-up came before the answer that they are missed
        self._releases: set[asyncio.Task[None]] = set()
        self._unsure: list[tuple[Collection[int], str]] = []  # Redis may hold these for us, but did not answer
        self._probe_seconds = lease.probe_seconds
        self._back_at: float | None = None

    @asynccontextmanager
    async def running(self, on_freed: Callable[[Iterable[int]], None]) -> AsyncIterator[None]:
        """
        Listen for wake-ups, and watch for a lost Redis to come back, as long as the block runs.

        `on_freed` is told of missed wallets that are worth another try.
        """
        self._on_freed = on_freed
        try:
            async with in_background(self._listen, self._probe):
                yield
                if self._releases:
                    await asyncio.wait(self._releases)
        finally:
            await self._taking.close()
            await self._releasing.close()
            await self._listener.aclose()

    async def take(self, wallet_ids: Collection[int]) -> tuple[str, set[int]]:
        """
        Lock all of these wallets that can be had, in one round trip.

        Returns the token that releases them, and the ids of the wallets that others hold or have reserved. With
        Redis gone the token is empty and nothing is missed.
        """
        if self.degraded:
            return "", set()
        token = self._new_token()
        missed: set[int] = set()
        self._asked.update(wallet_ids)
        try:
            for ids in self._by_shard(wallet_ids):
                positions = await self._take_now(ids, token)
                missed.update(ids[position - 1] for position in positions)
        except (RedisError, OSError, TimeoutError) as error:
            self._degrade(error)
            self._unsure.append((wallet_ids, token))
            return "", set()
        finally:
            self._asked.difference_update(wallet_ids)
            woken = self._woken.intersection(missed)
            self._woken.difference_update(wallet_ids)
        if woken:  # once our caller knows what it has missed
            asyncio.get_running_loop().call_soon(self._freed, woken)
        return token, missed

    def release_soon(self, wallet_ids: Collection[int], token: str) -> None:
        """Release in the background what `take` gave: nobody who waits for an answer waits for this."""
        if token and wallet_ids:
            task = asyncio.create_task(self._release_now(wallet_ids, token), context=Context())
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    def retry_soon(self, wallet_ids: Collection[int]) -> None:
        """Try these again in a moment, in case nobody wakes us before."""
        for wallet_id in wallet_ids:
            retry = asyncio.get_running_loop().call_later(self.lease.retry_seconds, self._freed, (wallet_id,))
            self._retries[wallet_id] = retry

    def _freed(self, wallet_ids: Collection[int]) -> None:
        for wallet_id in wallet_ids:
            if retry := self._retries.pop(wallet_id, None):
                retry.cancel()
        self._on_freed(wallet_ids)

    async def _release_now(self, wallet_ids: Collection[int], token: str) -> None:
        try:
            for ids in self._by_shard(wallet_ids):
                await self._give_back(ids, token)
        except (RedisError, OSError, TimeoutError) as error:
            self._degrade(error)
            self._unsure.append((wallet_ids, token))

    def _new_token(self) -> str:
        return f"{self._owner}:{next(self._numbers)}/{self._lease_ms}"

    async def _take_now(self, ids: list[int], token: str) -> list[int]:
        positions: list[int] = await self._taking.run(
            _TAKE, 1, self._prefix(ids), token, self._owner, self._lease_ms, self._reserve_ms, _in_one_string(ids)
        )
        return positions

    async def _give_back(self, ids: list[int], token: str) -> None:
        await self._releasing.run(_RELEASE, 1, self._prefix(ids), token, _CHANNEL, _in_one_string(ids))

    async def _listen(self) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            async with self._listener.pubsub() as pubsub:
                await pubsub.subscribe(_CHANNEL + self._owner)
                asked = False
                while (message := await pubsub.get_message(timeout=self.lease.answer_seconds)) or not asked:
                    asked = not message
                    if not message:  # nobody has to wake us, or the connection is dead and nobody has told us
                        await pubsub.ping()
                    elif message["type"] == "message":
                        freed = [int(id) for id in message["data"].split(b",")]
                        self._woken |= self._asked.intersection(freed)
                        self._freed(freed)
        await asyncio.sleep(self.lease.probe_seconds)

    async def _probe(self) -> None:
        """Ask what a batch asks: a Redis that is a replica or full, or knows no scripts, answers a PING."""
        await asyncio.sleep(self._probe_seconds)
        if self.degraded:
            with suppress(RedisError, OSError, TimeoutError):
                nobodys = [_NO_WALLET + int(self._owner, 16)]
                token = self._new_token()
                await self._take_now(nobodys, token)
                await self._give_back(nobodys, token)
                self._resume()

    def _degrade(self, error: Exception) -> None:
        if not self.degraded:
            self.degraded = True
            relapsed = (
                self._back_at is not None and asyncio.get_running_loop().time() - self._back_at < _RELAPSE_SECONDS
            )
            self._probe_seconds = (
                min(self._probe_seconds * 2, _PROBE_MAX_SECONDS) if relapsed else self.lease.probe_seconds
            )
            signals.degraded(True)
            log.warning("Redis is gone (it %s): money moves on row locks alone until it is back", redis_fault(error))

    def _resume(self) -> None:
        self.degraded = False
        self._back_at = asyncio.get_running_loop().time()
        signals.degraded(False)
        log.warning("Redis is back: wallets are locked across processes again")
        unsure, self._unsure = self._unsure, []
        for wallet_ids, token in unsure:  # or others would wait until the lease ends
            self.release_soon(wallet_ids, token)

    def _by_shard(self, wallet_ids: Iterable[int]) -> Iterable[list[int]]:
        shards: defaultdict[int, list[int]] = defaultdict(list)
        for wallet_id in wallet_ids:
            shards[wallet_id % self.lease.shards].append(wallet_id)
        return shards.values()

    def _prefix(self, wallet_ids: list[int]) -> str:
        """What the keys of these wallets, all of one shard, begin with: the hash tag keeps them in one slot."""
        return f"wallet:lock:{{{wallet_ids[0] % self.lease.shards}}}:"


def _in_one_string(wallet_ids: Iterable[int]) -> str:
    return ",".join(map(str, wallet_ids))
