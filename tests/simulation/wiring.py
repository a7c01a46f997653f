"""Which names of the real code mean something simulated, for as long as a simulation runs. There are no others."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from tests.simulation.lock_server import LockServer
from tests.simulation.postgres_client import Engine, Rows, engine
from tests.simulation.redis_client import SimulatedRedis
from tests.simulation.weather import Weather
from tests.simulation.world import World


@contextmanager
def wired(world: World, lock_server: LockServer, weather: Weather) -> Iterator[None]:
    """Real code, simulated surroundings; whatever it logs as an error that should not be is a finding."""

    SimulatedRedis.world, SimulatedRedis.server, SimulatedRedis.weather = world, lock_server, weather
    log, ears = logging.getLogger("actors"), _Ears(world)
    level, propagate = log.level, log.propagate
    log.addHandler(ears)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        with (
            patch("actors.engine.redis_connection.Redis", SimulatedRedis),
            patch("actors.engine.locks.Redis", SimulatedRedis),
            patch("db.transaction.engine", engine),
            patch("db.ledger.Transaction", Rows),
        ):
            yield
    finally:
        Engine.of.clear()
        log.removeHandler(ears)
        log.setLevel(level)
        log.propagate = propagate


class _Ears(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        # `settlement` tells of single orders that failed, and of outcomes unknown: their clients hear of that as well.
        if record.name != "actors.engine.settlement":
            error = record.exc_info[1] if record.exc_info else None
            self._world.find("logged:", record.getMessage(), repr(error))
