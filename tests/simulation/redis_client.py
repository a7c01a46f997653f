"""
What the engine sees of redis-py: connections that are sent commands, and a subscription.

Only these stand in for something. Turns, time limits and repetitions, and the loop that listens, are real.
"""

import asyncio
from types import TracebackType
from typing import Any, ClassVar

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from tests.simulation.lock_server import LockServer, lose
from tests.simulation.weather import Weather
from tests.simulation.world import World, here, until


class SimulatedRedis:
    """In the place of `redis.asyncio.Redis`."""

    world: ClassVar[World]
    server: ClassVar[LockServer]
    weather: ClassVar[Weather]

    @classmethod
    def from_url(cls, url: str, **_: Any) -> "SimulatedRedis":
        return cls()

    @property
    def connection_pool(self) -> "SimulatedRedis":
        return self

    def make_connection(self) -> "Connection":
        return Connection(self)

    def pubsub(self, **_: Any) -> "Subscription":
        return Subscription(self)

    async def aclose(self) -> None:
        """Nothing is open."""

    def latency(self) -> float:
        """What a message takes, in seconds."""
        if self.world.happens(self.weather.very_slow):
            return self.world.between(0.02, 1.0)
        return self.world.between(0.00005, self.weather.slow_seconds)

    async def connect(self) -> int:
        """Which life of the server it is that has answered."""
        await asyncio.sleep(self.latency())
        process = here()
        await until(lambda: not self.server.hangs or process.dead)
        if not self.server.up or process.dead:
            raise Disconnected("connection refused")
        return self.server.life


class Connection:
    """One connection, which is made anew where it was lost."""

    def __init__(self, redis: SimulatedRedis) -> None:
        self._redis = redis
        self._life: int | None = None
        self._answer: asyncio.Future[Any] | None = None

    async def send_command(self, *command: Any) -> None:  # noqa: C901 - there and back, in one place
        if self._life is None:
            self._life = await self._redis.connect()
        world, life = self._redis.world, self._life
        self._answer = answer = asyncio.get_running_loop().create_future()
        process = here()

        def arrive() -> None:
            server = self._redis.server
            if not server.up or server.life != life:
                return lose(answer, Disconnected("connection closed by server"))
            if server.hangs:  # it reads when it goes on, whoever has stopped waiting by then
                server.unread.append(arrive)
                return None
            try:
                result = server.execute(command)
            except RedisError as error:
                return lose(answer, error)
            if world.happens(self._redis.weather.redis_lost):
                world.note("redis loses its answer")
                return None
            world.later(self._redis.latency(), come_back, result)
            return None

        def come_back(result: Any) -> None:
            if not answer.done():
                answer.set_result(result)

        if process.dead:
            lose(answer, Disconnected("connection lost"))
        elif world.happens(self._redis.weather.redis_lost):
            world.note("redis is not reached")
        else:
            world.later(self._redis.latency(), arrive)

    async def read_response(self) -> Any:
        assert self._answer
        try:
            return await self._answer
        except BaseException as error:  # as redis-py: whatever breaks off an answer breaks off the connection
            if isinstance(error, Disconnected) or not isinstance(error, RedisError):
                self._life = None
            raise

    async def disconnect(self) -> None:
        self._life = None


class Subscription:
    """A connection that listens. Messages come in order, late, or not at all; it ends with the server's life."""

    deaf = False
    """Nothing comes through any more, and neither side knows."""

    def __init__(self, redis: SimulatedRedis) -> None:
        self._redis = redis
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._channel = ""
        self._last = 0.0

    async def __aenter__(self) -> "Subscription":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        listeners = self._redis.server.channels.get(self._channel, [])
        if self in listeners:
            listeners.remove(self)

    async def subscribe(self, channel: str) -> None:
        await self._redis.connect()
        self._channel = channel
        self._redis.server.channels.setdefault(channel, []).append(self)

    async def get_message(self, timeout: float | None) -> dict[str, Any] | None:  # noqa: ASYNC109 - as redis-py has it
        try:
            async with asyncio.timeout(timeout):
                message = await self._messages.get()
        except TimeoutError:
            return None
        if message is None:
            raise Disconnected("connection closed by server")
        return message

    async def ping(self) -> None:
        server = self._redis.server

        def arrive() -> None:
            if server.hangs:
                server.unread.append(arrive)
            elif self in server.channels.get(self._channel, []):
                self._send({"type": "pong", "data": b""})

        self._redis.world.later(self._redis.latency(), arrive)

    def deliver(self, message: bytes) -> None:
        """Send it, from the server."""
        if self._redis.world.happens(self._redis.weather.wake_up_lost):
            self._redis.world.note("a wake-up is lost:", message)
        else:
            self._send({"type": "message", "data": message})

    def _send(self, message: dict[str, Any]) -> None:
        if not self.deaf:
            world = self._redis.world
            self._last = max(self._last, world.loop.time() + self._redis.latency())
            world.later(self._last - world.loop.time(), self._messages.put_nowait, message)

    def hang_up(self) -> None:
        """The server is gone."""
        if not self.deaf:
            self._messages.put_nowait(None)
