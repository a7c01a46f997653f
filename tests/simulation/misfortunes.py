"""What happens to servers and processes on a bad day."""

import asyncio
from collections.abc import Callable

from tests.simulation.town import Town


async def misfortunes(town: Town) -> None:
    """One after another, and some at once."""
    for _ in range(town.plan.misfortunes):
        await asyncio.sleep(town.world.between(0.001, 0.7))
        happen = town.world.chance.choice(ALL)
        town.world.note("misfortune:", happen.__name__)
        happen(town)


def process_killed(town: Town) -> None:
    """kill -9."""
    branch = town.world.chance.choice(town.branches)
    if branch.up:
        branch.kill()
        town.close_branch(branch)


def process_frozen(town: Town) -> None:
    """For a moment, or past all leases."""
    branch = town.world.chance.choice(town.branches)
    if not branch.process.frozen:
        branch.freeze(town.world.between(0.005, 15.0))


def process_stopped(town: Town) -> None:
    """A rolling restart."""
    branch = town.world.chance.choice(town.branches)
    if branch.up:
        branch.stop()
        town.close_branch(branch)


def locks_forgotten(town: Town) -> None:
    """FLUSHALL: what a clock does that jumps past all leases."""
    town.lock_server._values.clear()


def lock_server_killed(town: Town) -> None:
    """It comes back at once or later, and may have forgotten everything."""
    server = town.lock_server
    server.restart(forget=town.world.happens(0.5))
    server.up = False
    town.world.later(town.world.between(0.001, 3.0), setattr, server, "up", True)


def lock_server_hangs(town: Town) -> None:
    """It does not answer for a while."""
    town.lock_server.hangs = True
    town.world.later(town.world.between(0.01, 3.0), town.lock_server.go_on)


def listeners_deaf(town: Town) -> None:
    """The way back of the connections that listen is lost, and neither side is told."""
    for listeners in town.lock_server.channels.values():
        for listener in listeners:
            listener.deaf = True


def database_killed(town: Town) -> None:
    """Every session ends, and for a while there is nobody to connect to."""
    database = town.database
    database.restart()
    database.up = False
    town.world.later(town.world.between(0.001, 12.0), setattr, database, "up", True)


def database_silent(town: Town) -> None:
    """A network that swallows everything."""
    town.database.silent = True
    town.world.later(town.world.between(0.01, 12.0), setattr, town.database, "silent", False)


def sessions_ended(town: Town) -> None:
    """pg_terminate_backend, for some of them."""
    for session in list(town.database.sessions):
        if town.world.happens(0.5):
            town.database.end(session)


def row_held(town: Town) -> None:
    """Somebody outside holds the row of a wallet."""
    database = town.database
    wallet_id = town.world.chance.choice(list(database.tables.wallets))
    session = database.session(None)

    async def hold() -> None:
        try:
            await database.locks.take(session, wallet_id)
            await asyncio.sleep(town.world.between(0.01, town.world.chance.choice([0.5, 3.0, 15.0])))
        except Exception as error:  # noqa: BLE001 - it did not get it
            town.world.note(repr(error))
        database.end(session)

    town.world.loop.spawn(town.world.loop.outside, hold())


ALL: list[Callable[[Town], None]] = [
    process_killed,
    process_frozen,
    process_frozen,
    process_stopped,
    locks_forgotten,
    lock_server_killed,
    lock_server_hangs,
    listeners_deaf,
    database_killed,
    database_silent,
    sessions_ended,
    row_held,
]
