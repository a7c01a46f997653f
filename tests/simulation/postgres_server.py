"""A database of which sessions ask what `db.ledger` asks: read committed, row locks, unique ids, and all its faults."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any

from asyncpg.exceptions import (
    AdminShutdownError,
    ConnectionDoesNotExistError,
    InFailedSQLTransactionError,
    UniqueViolationError,
)

from db import ledger
from db.rows import WalletRow
from tests.simulation.lock_server import lose
from tests.simulation.loop import Process
from tests.simulation.row_locks import RowLocks
from tests.simulation.tables import Changes, Tables, saved
from tests.simulation.weather import Weather
from tests.simulation.world import World

IDLE_SECONDS = 2.0
"""A session that does nothing for so long inside a transaction is ended."""


class Session:
    """The server's side of a connection."""

    def __init__(self, number: int, process: Process | None) -> None:
        self.number = number
        self.process = process
        self.begun_at: float | None = None  # when its BEGIN was sent; None outside a transaction
        self.failed = False
        self.committing = False
        self.over = False
        self.changes = Changes()
        self.asks: asyncio.Future[Any] | None = None  # what its client waits for
        self.used_at = 0.0

    def __repr__(self) -> str:
        return f"session {self.number}"


class Database:
    """The server."""

    def __init__(self, world: World, weather: Weather, wallets: Iterable[WalletRow]) -> None:
        self.world = world
        self.weather = weather
        self.tables = Tables(wallets)
        self.locks = RowLocks()
        self.sessions: list[Session] = []
        self.up = True
        self.silent = False
        self.on_commit: Callable[[Session, Changes], None] = lambda _session, _changes: None
        self._numbers = 0
        self._statements: dict[str, Callable[..., Awaitable[list[dict[str, Any]]]]] = {
            "BEGIN": self._begin,
            "ROLLBACK": self._rollback,
            ledger._LOAD: self._load,
            ledger._WAIT_BRIEFLY: self._nothing,
            ledger._WAIT: self._wait,
            ledger._SAVE: self._save,
            ledger._TRANSACTIONS: self._transactions,
            ledger._ORIGINALS: self._originals,
            ledger._FIND: self._find,
            ledger._OWE: self._owe,
            ledger._LOGGED: self._logged,
            ledger._LOG: self._log,
        }

    def session(self, process: Process | None) -> Session:
        """A new one."""
        self._numbers += 1
        session = Session(self._numbers, process)
        self.sessions.append(session)
        return session

    async def execute(self, session: Session, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        """Raises what PostgreSQL says; then the transaction can only be rolled back."""
        if session.over:
            raise ConnectionDoesNotExistError("connection was closed in the middle of operation")
        session.used_at = self.world.loop.time()
        if statement == "COMMIT":
            return self.commit(session)
        if session.failed and statement != "ROLLBACK":
            raise InFailedSQLTransactionError("current transaction is aborted")
        try:
            return await self._statements[statement](session, *arguments)
        except Exception as error:
            self.world.note(session, type(error).__name__)
            session.failed = True
            raise
        finally:
            session.used_at = self.world.loop.time()

    def commit(self, session: Session) -> list[dict[str, Any]]:
        """What it has written is there now, for all to see."""
        if session.over:
            raise ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if not session.failed:
            self.tables.commit(session.changes)
            self.on_commit(session, session.changes)
            self.world.note(session, "commits", [str(each.id)[-6:] for each in session.changes.transactions])
        self._forget(session)
        return []

    def end(self, session: Session, *, told: bool = True) -> None:
        """It is over: rolled back, unless it was committing, which may end either way."""
        if session.over:
            return
        if session.committing and self.world.happens(0.5):
            self.commit(session)
        self.world.note(session, "is over")
        self._forget(session)
        session.over = True
        self.sessions.remove(session)
        if told and session.asks:
            answer = session.asks
            self.world.later(0.0, lose, answer, _goodbye(self.world))

    def restart(self) -> None:
        """All sessions end."""
        for session in list(self.sessions):
            self.end(session)

    def end_idle(self) -> None:
        """End the transactions in which nothing has happened for long."""
        now = self.world.loop.time()
        for session in list(self.sessions):
            if session.begun_at is not None and now - session.used_at > IDLE_SECONDS:
                self.end(session)

    def _forget(self, session: Session) -> None:
        session.changes, session.failed, session.begun_at, session.committing = Changes(), False, None, False
        self.locks.release(session, AdminShutdownError("terminating connection"))

    async def _take(self, session: Session, resource: Hashable) -> None:
        """A session that has ended while its statement ran locks nothing more, and keeps nothing."""
        gone = ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if not session.over:
            await self.locks.take(session, resource)
        if session.over:
            self.locks.release(session, gone)
            raise gone

    async def _begin(self, session: Session, sent_at: float) -> list[dict[str, Any]]:
        session.begun_at = sent_at
        return []

    async def _rollback(self, session: Session) -> list[dict[str, Any]]:
        self._forget(session)
        return []

    async def _load(self, session: Session, ids: list[int], numbers: list[str], keys: list[Any]) -> Any:
        tables = self.tables
        known = [tables.key(id) for id in keys if id in tables.keys]  # as of the statement's start
        wanted = {*ids, *(tables.ids[number] for number in numbers if number in tables.ids)} & tables.wallets.keys()
        ours = {id for id in wanted if self.locks.take_if_free(session, id)}
        now = {"kind": "now", "last_entry_at": self.world.now}
        return [*(tables.wallet(id) for id in ours), *(tables.held(id) for id in wanted - ours), *known, now]

    async def _nothing(self, session: Session) -> list[dict[str, Any]]:
        return []

    async def _wait(self, session: Session, ids: list[int]) -> list[dict[str, Any]]:
        for id in sorted(ids):
            await self._take(session, id)
        return []

    async def _save(self, session: Session, *arrays: Any) -> list[dict[str, Any]]:
        changes = saved(arrays)
        for kind, id, _ in list(self.tables.unique(changes)):
            await self._take(session, (kind, id))  # whoever writes the same comes to an end first
        if taken := [f"{kind} {id}" for kind, id, is_there in self.tables.unique(changes) if is_there]:
            raise UniqueViolationError(f"duplicate key {taken}")
        for wallet_id, columns in changes.wallets.items():
            if self.locks.held.get(wallet_id) is not session:
                self.world.find(f"wallet {wallet_id} is written without its row lock")
            before = self.tables.wallets[wallet_id].amount
            moved = sum(each.amount for each in changes.entries if each.wallet_id == wallet_id)
            if columns["amount"] != before + moved:
                self.world.find(f"wallet {wallet_id}: {before} and {moved} make {columns['amount']}")
        session.changes = changes
        return []

    async def _transactions(self, session: Session, ids: list[Any]) -> list[dict[str, Any]]:
        return [self.tables.transaction(id) for id in ids if id in self.tables.transactions]

    async def _originals(self, session: Session, ids: list[Any]) -> list[dict[str, Any]]:
        actions, back = self.tables.staff_actions, self.tables.reversed
        rows = await self._transactions(session, ids)
        return [row | {"adjusted": row["id"] in actions, "reversed": row["id"] in back} for row in rows]

    async def _find(self, session: Session, ids: list[Any], wallet_ids: list[int]) -> list[dict[str, Any]]:
        asked = [each for each in zip(ids, wallet_ids, strict=True) if each[0] in self.tables.transactions]
        return [self.tables.transaction(each[0]) | {"balance_after": self.tables.balance(*each)} for each in asked]

    async def _owe(self, session: Session, *_: Any) -> list[dict[str, Any]]:
        return []

    async def _logged(self, session: Session, ids: list[Any]) -> list[dict[str, Any]]:
        return [{"id": id} for id in ids if id in self.tables.staff_actions]

    async def _log(self, session: Session, ids: list[Any], *_: Any) -> list[dict[str, Any]]:
        for id in ids:
            await self._take(session, ("staff_action", id))
            if id in self.tables.staff_actions:
                raise UniqueViolationError("duplicate key of staff_action")
        session.changes.staff_actions = list(ids)
        return []


def _goodbye(world: World) -> Exception:
    goodbye: Exception = ConnectionDoesNotExistError("connection was closed in the middle of operation")
    if world.happens(0.5):
        goodbye = AdminShutdownError("terminating connection due to administrator command")
    return goodbye
