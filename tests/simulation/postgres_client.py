"""
What `db.transaction` and `db.ledger` see of Piccolo and asyncpg: an engine, its pool, connections that are asked.

The transaction around them is Piccolo's own, and so is all of `db.transaction` and `db.ledger`.
"""

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import Any, ClassVar, cast

from asyncpg.exceptions import CannotConnectNowError, ConnectionDoesNotExistError, InterfaceError
from piccolo.engine.postgres import PostgresEngine, PostgresTransaction

from tests.simulation.lock_server import lose
from tests.simulation.loop import Process
from tests.simulation.postgres_server import Database, Session
from tests.simulation.world import here, until

STATEMENT_SECONDS = 10.0

_current: ContextVar[Any] = ContextVar("transaction", default=None)


class Connection:
    """One of the pool's."""

    def __init__(self, database: Database, session: Session) -> None:
        self.session = session
        self.broken = False
        self.given_up: asyncio.Future[Any] | None = None  # the answer to a statement that nobody waits for any more
        self.wanted_at = 0.0  # when whoever uses it now began to wait for a connection
        self._database = database
        self._world = database.world

    def latency(self) -> float:
        """What a message takes, in seconds."""
        if self._world.happens(self._database.weather.very_slow):
            return self._world.between(0.02, 1.0)
        return self._world.between(0.00005, self._database.weather.slow_seconds)

    def transaction(self) -> "Connection":
        return self

    def terminate(self) -> None:
        """Hang up without a word."""
        if not self.broken:
            self._lost()

    async def start(self) -> None:
        await self.fetch("BEGIN", self.wanted_at)

    async def commit(self) -> None:
        try:
            await self.fetch("COMMIT")
        except BaseException:
            Engine.of[here()].doubts.append(self._world.loop.time())
            raise

    async def rollback(self) -> None:
        await self.fetch("ROLLBACK")

    async def fetch(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        """What the server answers. Raises what asyncpg would."""
        await self.quiet()
        if self.broken or here().dead:
            raise InterfaceError("connection is closed")
        session, world = self.session, self._world
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look_at)
        session.asks = answer
        world.loop.spawn(world.loop.outside, self._carry(statement, arguments, answer))
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                return cast("list[dict[str, Any]]", await _outcome(answer))
        except (TimeoutError, asyncio.CancelledError):
            self.given_up = answer
            raise
        except ConnectionDoesNotExistError:
            self.broken = True
            raise
        finally:
            self.broken = self.broken or session.over

    async def quiet(self) -> None:
        """
        Until what was given up has come to an end: asyncpg has it cancelled, and waits for that as for a statement.

        Here a cancellation always comes too late: the statement is carried out.
        """
        if self.given_up and not self.broken and not here().dead:
            await asyncio.wait([self.given_up], timeout=STATEMENT_SECONDS)
            if not self.given_up.done():
                self.terminate()
                raise TimeoutError
        self.given_up = None

    async def _carry(  # noqa: C901 - each fate of a message, from its beginning to its end
        self, statement: str, arguments: tuple[Any, ...], answer: "asyncio.Future[Any]"
    ) -> None:
        """To the server and back."""
        session, world, weather = self.session, self._world, self._database.weather
        is_commit = statement == "COMMIT"
        fate = "arrives"
        if world.happens(weather.commit_lost if is_commit else weather.statement_lost):
            fate = world.chance.choice(("is not sent", "arrives late", "is not answered", "is met with silence"))
            world.note(session, "COMMIT" if is_commit else statement.split()[0], fate)
        if fate == "is not sent":
            self._lost()
            lose(answer, ConnectionDoesNotExistError("connection was closed in the middle of operation"))
            return
        session.committing = is_commit
        if fate == "arrives late":  # our side has given up by then
            self.broken = True
            world.later(self.latency(), lose, answer, ConnectionResetError("connection reset by peer"))
            await asyncio.sleep(world.between(0.001, 1.0))
        elif fate == "is met with silence" and world.happens(0.5):
            return
        await asyncio.sleep(self.latency())
        await until(lambda: not self._database.silent)
        try:
            result: Any = await self._database.execute(session, statement, *arguments)
        except Exception as error:  # noqa: BLE001 - it is an answer
            result = error
        if fate == "arrives late":
            self._database.end(session)
        elif fate == "is not answered":
            self._lost()
            lose(answer, ConnectionDoesNotExistError("connection was closed in the middle of operation"))
        elif fate == "arrives":
            await asyncio.sleep(self.latency())
            if isinstance(result, Exception):
                lose(answer, result)
            elif not answer.done():
                answer.set_result(result)

    def _lost(self) -> None:
        """The server learns of it in its own time."""
        self.broken = True
        self._world.later(self._world.between(0.0001, 2.0), self._database.end, self.session)


class Pool:
    """As many connections as it has slots; whoever finds none waits for one."""

    def __init__(self, database: Database, size: int) -> None:
        self.free = self.size = size
        self._database = database
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> Connection:
        """Raises what asyncpg does where it can't connect."""
        wanted_at = self._database.world.loop.time()
        while not self.free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self.free -= 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.session.over or self._database.world.happens(0.2):  # or it has not noticed yet
                    break
            else:
                connection = await self._connect()
            connection.wanted_at = wanted_at
            return connection
        except BaseException:
            self._give_back()
            raise

    async def release(self, connection: Connection) -> None:
        """It can be used again, if it is whole. As asyncpg's, it goes on where whoever waits for it is cancelled."""
        if connection.given_up and not connection.broken:
            releasing = asyncio.create_task(self._release(connection))
            releasing.add_done_callback(_look_at)
            await _outcome(releasing)
        else:
            await self._release(connection)

    async def _release(self, connection: Connection) -> None:
        try:
            if connection.given_up:
                await connection.quiet()
                await connection.rollback()
        except BaseException:
            connection.terminate()
            raise
        finally:
            self._put_back(connection)

    def _put_back(self, connection: Connection) -> None:
        if not connection.broken:
            if connection.session.begun_at is not None and not connection.session.over:
                self._database.world.find(f"{connection.session} is given back inside a transaction")
            self._idle.append(connection)
        self._give_back()

    async def _connect(self) -> Connection:
        world, process = self._database.world, here()
        await asyncio.sleep(world.between(0.0005, 0.005))
        async with asyncio.timeout(5):
            await until(lambda: not self._database.silent)
        if process.dead or not self._database.up:
            raise world.chance.choice((ConnectionRefusedError("refused"), CannotConnectNowError("starting up")))
        return Connection(self._database, self._database.session(process))

    def _give_back(self) -> None:
        self.free += 1
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break


class Engine:
    """In the place of Piccolo's `PostgresEngine`; each process has one."""

    of: ClassVar[dict[Process, "Engine"]] = {}

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.reserved = None
        self.current_transaction = _current
        self.doubts: list[float] = []  # when a COMMIT was not answered

    def transaction(self, *, allow_nested: bool = True) -> PostgresTransaction:
        return PostgresTransaction(cast(PostgresEngine, self), allow_nested=allow_nested)


def engine() -> Engine:
    """In the place of `db.engine.engine`."""
    return Engine.of[here()]


class Rows:
    """In the place of the table class through which `db.ledger` asks what is rare."""

    @staticmethod
    async def raw(statement: str, *arguments: Any) -> list[dict[str, Any]]:
        if current := engine().current_transaction.get():
            return cast("list[dict[str, Any]]", await current.connection.fetch(statement, *arguments))
        pool = engine().pool
        connection = await pool.acquire()
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await pool.release(connection)


def _look_at(answer: "asyncio.Future[Any]") -> None:
    """Nobody need have waited for it."""
    if not answer.cancelled():
        answer.exception()


async def _outcome(answer: "asyncio.Future[Any]") -> Any:
    """What it comes to, and it goes on where whoever waits is cancelled. A failure after that is nobody's to report."""
    await asyncio.wait([answer])
    return answer.result()
