"""A first look at the database: it is there, and it is as this version needs it. Otherwise nobody should be served."""

import asyncpg

from db.engine import engine
from db.piccolo_app import APP_CONFIG


async def look(seconds: float) -> None:
    """
    Ask for every column of every table, and for no row.

    Raises:
        UNAVAILABLE: it did not let us connect within so many seconds.
        asyncpg.PostgresError: it does not let us in, or a table or a column is missing: a migration has not run.
    """
    connection = await asyncpg.connect(**engine().config, timeout=seconds)
    try:
        await connection.execute("; ".join(str(table.select().limit(0)) for table in APP_CONFIG.table_classes))
    finally:
        await connection.close()
