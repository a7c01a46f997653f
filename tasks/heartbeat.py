"""The worker's sign of life in Redis: written every ten seconds, kept for long, judged by its age."""

import os
from datetime import UTC, datetime, timedelta

import msgspec
from redis.asyncio import Redis

HEARTBEAT_KEY = "wallet:worker:heartbeat"
BEAT_SECONDS = 10.0

# Older than this, and no worker lives. It stays known until when one did.
ALIVE = timedelta(seconds=30)
KEPT = timedelta(days=30)


async def beat(redis: Redis) -> None:
    """Say that this process is a worker and lives. Raises what Redis raises."""
    told = msgspec.json.encode({"at": datetime.now(UTC), "pid": os.getpid()})
    await redis.set(HEARTBEAT_KEY, told, ex=KEPT)


async def heartbeat_age(redis: Redis) -> timedelta | None:
    """
    How long ago a worker last said that it lives; None where none has within `KEPT`, or where that can't be believed.

    Told by Redis's own clock, from what is left of the key's life: the clocks of two machines may differ by more than
    `ALIVE`. Where Redis's own clock was set back, what was said before seems to come from the future, and is not
    believed. Raises what Redis raises.
    """
    left_ms: int = await redis.pttl(HEARTBEAT_KEY)
    left = timedelta(milliseconds=left_ms)
    if left < timedelta() or left > KEPT + ALIVE:
        return None
    return max(KEPT - left, timedelta())
