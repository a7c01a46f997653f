"""A bank and what it can't do without, wired in one place: for the API, the worker, and commands that run once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from actors.bank import Bank
from actors.engine.locks import Locks
from actors.engine.mailbox import Passed
from tasks.rates.board import RateBoard
from tasks.settings import WorkerSettings


class Banking:
    """The bank, with locks of its own, and the board that tells it the exchange rates."""

    def __init__(
        self, settings: WorkerSettings, redis: Redis, *, on_road: Callable[[list[Passed]], None] | None = None
    ) -> None:
        self.board = RateBoard(redis, settings.rates, settings.development)
        self.bank = Bank(settings.bank, Locks(settings.redis_url, settings.locks), self.board.current, on_road=on_road)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry out orders as long as the block runs. The database's pool must be open."""
        async with self.board.running(), self.bank.running():
            yield
