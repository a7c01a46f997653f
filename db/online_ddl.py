"""What migrations do to tables that are written to all the time, so that writers wait for nothing that takes long."""

from asyncpg import Connection
from msgspec import Struct
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.query.methods.alter import AddConstraint

from db.engine import engine
from db.transaction import run


class OnlineMigrationManager(MigrationManager):
    """
    Piccolo's, but a check that it adds to a table that exists is NOT VALID: rows that are there are not read.

    Rows that are written from now on are checked. A later migration calls `validate` for those from before. Piccolo is
    told of the constraint as if it were any other, so `wallet migrate --check` finds nothing missing.
    """

    async def _run_add_constraints(self, backwards: bool = False) -> None:
        if backwards:
            await super()._run_add_constraints(backwards=True)
            return
        new_tables = {table.class_name for table in self.add_tables}
        for added in self.add_constraints.add_constraints:
            if added.table_class_name not in new_tables:
                statement = AddConstraint(added.constraint).ddl
                await run(f'ALTER TABLE "{added.tablename}" {statement} NOT VALID')

    def validate(self, tablename: str, constraint_name: str) -> None:
        """Check the rows from before the constraint, while others write on. Such a migration does nothing else."""

        async def validate() -> None:
            await run(f'ALTER TABLE "{tablename}" VALIDATE CONSTRAINT "{constraint_name}"')

        self.add_raw(validate)


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
        """The SQL, to be run outside a transaction."""
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
