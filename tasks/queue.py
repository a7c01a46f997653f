"""The queue that the application and its workers share."""

from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from saq.queue.redis import RedisQueue

QUEUE_NAME = "wallet"

# A worker waits this long for a job before it asks again. A connection that is silent for longer than that plus some
# seconds is dead, whatever the network says.
DEQUEUE_SECONDS = 5.0
SILENCE_SECONDS = 10.0
CONNECT_SECONDS = 2.0


class PatientQueue(RedisQueue):
    """SAQ's queue, which can also be closed while Redis is away."""

    async def disconnect(self) -> None:
        """Close it. SAQ says goodbye to Redis first, which fails where there is none to hear it."""
        with suppress(RedisError, OSError):
            await super().disconnect()
        await self.redis.aclose()


def open_queue(redis_url: str) -> RedisQueue:
    """
    The queue, with a Redis client of its own; nothing is connected yet. Close it with `disconnect()`.

    One retry after a moment: enough for a connection that Redis has closed, and the waiting worker does not spin
    while Redis is away.
    """
    redis: Redis = Redis.from_url(
        redis_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=SILENCE_SECONDS,
        retry=Retry(ConstantBackoff(0.5), 1),
    )
    return PatientQueue(redis, name=QUEUE_NAME)
