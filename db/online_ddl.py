"""Indexes on tables that are written to all the time: made beside the writers, who wait for nothing."""

from asyncpg import Connection
from msgspec import Struct

from db.engine import engine


class ConcurrentIndex(Struct, frozen=True, kw_only=True):
    """
    An index that a migration names in its `INDEXES`.

    `on` is the rest of PostgreSQL's statement: table, columns and condition, as `"entry" ("transaction")`.
    """

    name: str
    on: str
    unique: bool = False

    @property
    def statement(self) -> str:
        """What makes it."""
        return f'CREATE {"UNIQUE " if self.unique else ""}INDEX CONCURRENTLY "{self.name}" ON {self.on}'


async def make_index(index: ConcurrentIndex) -> bool:
    """
    Make the index outside any transaction, as PostgreSQL wants it; False where it is there already.

    An attempt that was broken off leaves an index that every write keeps up and no query uses. It goes first. Nobody
    waits for this; it waits, for as long as it takes, for every transaction that was there before it.

    Raises:
        asyncpg.PostgresError: among others, rows that a unique index refuses. The invalid index is gone again.
    """
    connection = await engine().get_new_connection()
    try:
        valid = await _valid(connection, index.name)
        if valid:
            return False
        if valid is False:
            await _drop(connection, index.name)
        try:
            await connection.execute(index.statement)
        except BaseException:
            if not connection.is_closed() and await _valid(connection, index.name) is False:
                await _drop(connection, index.name)
            raise
        return True
    finally:
        await connection.close()


async def _valid(connection: Connection, name: str) -> bool | None:
    """Whether queries may use the index; None where there is none of this name."""
    valid: bool | None = await connection.fetchval(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(quote_ident($1))", name
    )
    return valid


async def _drop(connection: Connection, name: str) -> None:
    await connection.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
