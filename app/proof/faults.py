"""What is done to the town while its clients are served, and how long they had to do without."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise, takewhile
from random import Random
from time import monotonic
from typing import get_args

import asyncpg
import httpx
from msgspec import Struct, field
from redis.asyncio import Redis

from actors.rules.fees import FEE_PERIOD
from app.proof.cable import Fault as CommitFault
from app.proof.clients import Crowd
from app.proof.town import LEASE_SECONDS, Town
from app.proof.wrong_clock import MAY_DIFFER
from db.servers.process import Server

_RECOVERY_SECONDS = 60.0
_PUSHING = 120  # who want something of one wallet at once: three times what its mailbox holds
_COMMIT_FAULTS = get_args(CommitFault)
_TABLES = ("wallet", "entry", "transaction", "idempotency_key", "message")
_HOLD_ROW = 'SELECT FROM "wallet" WHERE "id" = $1 FOR UPDATE'
_IN_TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'wallet' AND pid <> pg_backend_pid()"
)
_MONTH_PASSES = 'UPDATE "wallet" SET "fee_due_at" = "fee_due_at" - $1::interval WHERE "id" = $2'
# By how much a month brings a fee nearer: more than a period, since a day that was charged once is not charged again.
MONTH = FEE_PERIOD + timedelta(seconds=1)


class Recovery(Struct, frozen=True):
    """From when the thing was whole again until a client that asked after that was served; None: never."""

    seconds: float | None
    nobody_served_seconds: float
    """The longest time without an answer, from when it was broken until then."""


class Storm(Struct, kw_only=True):
    """The faults so far, by kind."""

    town: Town
    crowd: Crowd
    chance: Random
    http: httpx.AsyncClient
    months: int = 0
    recoveries: dict[str, list[Recovery]] = field(default_factory=lambda: defaultdict(list))

    async def rage(self) -> None:
        """One fault after another, each over before the next begins, until the crowd's day is over."""
        kinds = list(FAULTS)
        while not self.crowd.over:
            name = self.chance.choices(kinds, [FAULTS[kind].weight for kind in kinds])[0]
            broken_at = monotonic()
            port = await FAULTS[name].strike(self)
            self.recoveries[name].append(await self._recovery(port, broken_at))
            await asyncio.sleep(self.chance.uniform(0, 0.3))

    async def cut_commits(self) -> None:
        """Beside all else: COMMITs that are cut off at every place where they can be."""
        while not self.crowd.over:
            kind = self.chance.choice(_COMMIT_FAULTS)
            broken_at = monotonic()
            self.town.cable.faults.append(kind)
            while self.town.cable.faults and not self.crowd.over:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.01)
            if not self.town.cable.faults:
                self.recoveries[f"COMMIT cut off: {kind}"].append(await self._recovery(None, broken_at))
            await asyncio.sleep(self.chance.uniform(0.2, 1.0))

    async def _recovery(self, port: int | None, broken_at: float) -> Recovery:
        whole_at = monotonic()
        seen = len(self.crowd.served)
        while monotonic() - whole_at < _RECOVERY_SECONDS:
            for sent_at, answered_at, by in self.crowd.served[seen:]:
                seen += 1
                if sent_at >= whole_at and by == (port or by):
                    return Recovery(answered_at - whole_at, self._longest_gap(broken_at, answered_at))
            if self.crowd.over:
                break
            await asyncio.sleep(0.005)
        return Recovery(None, self._longest_gap(broken_at, monotonic()))

    def _longest_gap(self, start: float, end: float) -> float:
        answers = (answered_at for _, answered_at, _ in reversed(self.crowd.served))
        moments = [end, *takewhile(lambda at: at > start, answers), start]
        return max(later - earlier for later, earlier in pairwise(moments))


class Fault(Struct, frozen=True):
    """How to bring it about and mend it (`strike` returns the port of the process it was about, if one), how often."""

    strike: Callable[[Storm], Awaitable[int | None]]
    weight: int


async def kill_api(storm: Storm) -> int | None:
    """A process is gone in the middle of its work, and another takes its place."""
    api = storm.chance.choice(storm.town.apis)
    await _kill_and_start(storm, api)
    return api.port


async def freeze_api(storm: Storm) -> int | None:
    """A process stands still until others have its locks, and then goes on as if nothing had been."""
    api = storm.chance.choice(storm.town.apis)
    await _stop_and_continue(api, LEASE_SECONDS * storm.chance.uniform(1.1, 2.0))
    return api.port


async def kill_worker(storm: Storm) -> int | None:
    """The worker is gone, and another takes its place."""

    def kill_and_start() -> None:
        storm.town.worker.kill()
        storm.town.worker.wait()
        storm.town.start_worker()

    await storm.town.aside(kill_and_start)
    return None


async def kill_fees(storm: Storm) -> int | None:
    """A month passes, and the sweep that charges it is killed at some moment, or gets through."""
    async with _stranger(storm) as connection:
        for holder in storm.crowd.holders:
            await connection.execute(_MONTH_PASSES, MONTH, holder.wallet_id)
    storm.months += 1
    sweep = storm.town.charge_fees()
    await asyncio.sleep(storm.chance.uniform(0.3, 2.5))
    sweep.kill()
    await storm.town.aside(sweep.wait)
    return None


async def kill_postgres(storm: Storm) -> int | None:
    """The database's first process is killed; it recovers from its log."""
    await _kill_and_start(storm, storm.town.server("PostgreSQL"))
    return None


async def kill_valkey(storm: Storm) -> int | None:
    """Redis is killed, and comes back with what it had written."""
    await _kill_and_start(storm, storm.town.server("Valkey"))
    return None


async def empty_valkey(storm: Storm) -> int | None:
    """Redis is killed, and comes back with nothing."""
    await _kill_and_start(storm, storm.town.server("Valkey"))
    async with Redis.from_url(storm.town.redis_url) as redis:
        await redis.flushall()
    return None


async def silence_valkey(storm: Storm) -> int | None:
    """Redis takes connections and answers nothing for a while; then it does what it was asked meanwhile."""
    await _stop_and_continue(storm.town.server("Valkey"), storm.chance.uniform(0.1, 3.0))
    return None


async def end_leases(storm: Storm) -> int | None:
    """All locks are gone at once, as if a clock had jumped past the end of their leases."""
    async with Redis.from_url(storm.town.redis_url) as redis:
        keys = await redis.keys("wallet:lock:*")
        if keys:
            await redis.delete(*keys)
    return None


async def freeze_in_transaction(storm: Storm) -> int | None:
    """A process stands still while it has rows locked: PostgreSQL lets go of them, and the others go on."""
    api = storm.chance.choice(storm.town.apis)
    assert api.process
    async with _stranger(storm) as connection:
        for _ in range(50):
            api.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # for what it has sent
            if await connection.fetchval(_IN_TRANSACTION):
                break
            api.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.01)
    await _stop_and_continue(api, storm.chance.uniform(1.0, 6.0))
    return api.port


async def jump_clock(storm: Storm) -> int | None:
    """A process's clock jumps: it was ahead of the others' or behind them, and is so by another time now."""
    api = storm.chance.choice(storm.town.apis)
    assert api.process
    api.process.send_signal(signal.SIGUSR1)
    return api.port


async def hold_row(storm: Storm) -> int | None:
    """Somebody with a console has locked a wallet's row, and went for a coffee."""
    async with _stranger(storm) as connection, connection.transaction():
        await connection.execute(_HOLD_ROW, storm.chance.choice(storm.crowd.holders).wallet_id)
        await asyncio.sleep(storm.chance.uniform(0.1, 12.0))
    return None


async def lock_table(storm: Storm) -> int | None:
    """Likewise with a whole table."""
    async with _stranger(storm) as connection, connection.transaction():
        await connection.execute(f'LOCK TABLE "{storm.chance.choice(_TABLES)}"')
        await asyncio.sleep(storm.chance.uniform(0.1, 3.0))
    return None


async def make_read_only(storm: Storm) -> int | None:
    """New sessions can only read, and there are only new ones: a failover, or a disk that is full."""
    async with _stranger(storm) as connection:
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        await connection.execute(_END_SESSIONS)
        await asyncio.sleep(storm.chance.uniform(0.1, 3.0))
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    return None


async def unplug(storm: Storm) -> int | None:
    """No way to the database for a moment."""
    storm.town.on_cable(storm.town.cable.unplug)
    await asyncio.sleep(storm.chance.uniform(0.01, 0.8))
    storm.town.on_cable(storm.town.cable.plug)
    return None


async def silence(storm: Storm) -> int | None:
    """Whatever is sent to the database or by it stays on the way, and arrives late."""
    storm.town.on_cable(storm.town.cable.hush)
    await asyncio.sleep(storm.chance.uniform(0.1, 3.0))
    storm.town.on_cable(storm.town.cable.speak)
    return None


async def terminate_sessions(storm: Storm) -> int | None:
    """The database ends some of the sessions, whatever they are doing."""
    async with _stranger(storm) as connection:
        await connection.execute(f"{_END_SESSIONS} AND random() < 0.5")
    return None


async def push(storm: Storm) -> int | None:
    """Everybody wants to pay into one wallet at once, more than its mailbox holds."""
    holder = storm.chance.choice(storm.crowd.holders)
    wishes = [storm.crowd.new_wish(of=holder, kind="deposit") for _ in range(_PUSHING)]
    await asyncio.gather(*(storm.crowd.pursue(storm.http, wish) for wish in wishes))
    return None


@asynccontextmanager
async def _stranger(storm: Storm) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's session of the database."""
    connection = await asyncpg.connect(storm.town.database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def _stop_and_continue(server: Server, seconds: float) -> None:
    assert server.process
    server.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        server.process.send_signal(signal.SIGCONT)


async def _kill_and_start(storm: Storm, server: Server) -> None:
    def kill_and_start() -> None:
        assert server.process
        server.process.kill()
        server.process.wait()
        server.start()

    await storm.town.aside(kill_and_start)


FAULTS = {
    "kill -9 of an API process": Fault(kill_api, 4),
    "API process stopped past its leases": Fault(freeze_api, 3),
    "kill -9 of the worker": Fault(kill_worker, 2),
    "kill -9 of a fee sweep": Fault(kill_fees, 3),
    "kill -9 of PostgreSQL": Fault(kill_postgres, 3),
    "kill -9 of Redis": Fault(kill_valkey, 3),
    "kill -9 of Redis, its data lost": Fault(empty_valkey, 2),
    "Redis silent": Fault(silence_valkey, 3),
    "API process stopped in mid-transaction": Fault(freeze_in_transaction, 3),
    "a stranger holds a wallet's row": Fault(hold_row, 3),
    "a stranger locks a table": Fault(lock_table, 3),
    "database read-only": Fault(make_read_only, 3),
    "all leases ended early": Fault(end_leases, 6),
    "database unreachable": Fault(unplug, 6),
    "database silent": Fault(silence, 3),
    "database sessions ended": Fault(terminate_sessions, 6),
    "a crowd before one wallet": Fault(push, 3),
}
if MAY_DIFFER:
    FAULTS["clock of an API process jumps"] = Fault(jump_clock, 6)
