"""A process of the API in a simulation: the real bank and the real locks, and what can be done to it from outside."""

import asyncio
from typing import Any

from actors.bank import Bank
from actors.engine.locks import Locks
from actors.money import Rates
from tests.simulation.lock_server import lose
from tests.simulation.loop import NumberedTask
from tests.simulation.postgres_client import Engine, Pool
from tests.simulation.postgres_server import Database
from tests.simulation.weather import Plan
from tests.simulation.world import World


class Gone(Exception):
    """The connection to the API has broken off: the order may have been carried out or not."""


class Branch:
    """One process, from its start to its end."""

    def __init__(self, world: World, database: Database, plan: Plan, number: int, rates: Rates | None) -> None:
        self.name = f"bank{number}"
        self.process = world.loop.process(self.name)
        self.up = self.told_to_stop = self.stopped = False
        self.frozen_seconds = 0.0
        self.waiting: dict[asyncio.Future[Any], None] = {}  # clients
        self.engine = Engine.of[self.process] = Engine(Pool(database, plan.pool))
        self.bank: Bank
        self.locks: Locks
        self._world, self._database, self._plan, self._rates = world, database, plan, rates
        self._number = number
        self._stop = asyncio.Event()
        self.life: NumberedTask = world.loop.spawn(self.process, self._live())

    async def _live(self) -> None:
        self.locks = Locks("redis://simulated", self._plan.lease)
        self.locks._owner = f"{self._number:016x}"
        self.bank = Bank(self._plan.limits, self.locks, lambda: self._rates)
        async with self.bank.running():
            self.up = True
            self._world.note("is up")
            await self._stop.wait()
            self.up = False
        self.stopped = True
        self._world.note("has stopped")

    def stop(self) -> None:
        """SIGTERM."""
        self.told_to_stop = True
        self._stop.set()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self._world.note(self.name, "is frozen for", seconds)
        self.process.frozen = True
        self.frozen_seconds += seconds
        self._world.later(seconds, self.thaw)
        self._world.later(10.01, self._database.end_idle)

    def thaw(self) -> None:
        """SIGCONT."""
        if not self.process.dead:
            self.process.frozen = False

    def kill(self) -> None:
        """SIGKILL."""
        self._world.note(self.name, "is killed")
        self.up = False
        self._world.loop.kill(self.process)
        for client in list(self.waiting):
            lose(client, Gone())
        for session in self._database.sessions:
            if session.process is self.process:
                self._world.later(self._world.between(0.0001, 0.1), self._database.end, session)
