"""A PostgreSQL of the test's own that answers and can't serve, in every way that there is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from msgspec import Struct

from db.migrate import migrate
from db.servers.embedded import Servers
from tests.helpers.postgres import connected

ROLE = "till"
NAME = "till"
PASSWORD = "only for this test"

_WRITES = "INSERT OR UPDATE OR DELETE"
_TABLES = (
    *("user", "wallet", "transaction", "entry", "idempotency_key", "refresh_token", "message"),
    *("staff_action", "exchange_rate", "audit_result", "sessions", "piccolo_user"),
)


class Unfit(Struct, frozen=True):
    """A way of not serving; `reads` where what writes nothing is served all the same."""

    name: str
    reads: bool
    begin: str
    end: str
    says: str
    """Of what readiness says; empty where it can't know."""


class Till(Struct, frozen=True):
    """The database, whose owner is no superuser, and which somebody else may spoil."""

    url: str
    superuser: str

    @asynccontextmanager
    async def unfit(self, way: Unfit) -> AsyncIterator[None]:
        """As long as the block runs. Sessions that began before are ended; those that are begun meanwhile stay."""
        await self._do(way.begin)
        try:
            yield
        finally:
            await self._do(way.end)

    async def close(self) -> None:
        """Take it away, with its owner."""
        async with connected(self.superuser) as outside:
            await outside.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
            await outside.execute(f"DROP ROLE {ROLE}")

    async def _do(self, statements: str) -> None:
        url = self.superuser if "DATABASE" in statements or "ROLE" in statements else self._inside()
        async with connected(url) as outside:
            for statement in statements.split(";;"):
                await outside.execute(statement)

    def _inside(self) -> str:
        return self.superuser.rsplit("/", 1)[0] + f"/{NAME}"


async def open_till(servers: Servers) -> Till:
    """The database, made and migrated on these servers."""
    assert servers.database_url
    async with connected(servers.database_url) as outside:
        await outside.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        await outside.execute(f"CREATE DATABASE {NAME} OWNER {ROLE}")
    url = f"postgresql://{ROLE}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{urlsplit(servers.database_url).port}/{NAME}"
    await migrate(url)
    return Till(url, servers.database_url)


_END_SESSIONS = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{ROLE}'"


def _refused(name: str, change: str, undo: str, says: str) -> Unfit:
    """Nobody gets in any more, and who was in is out."""
    return Unfit(name, False, f"{change};;{_END_SESSIONS}", undo, says)


def _raised(name: str, code: str, says: str, *, at_commit: bool = False) -> Unfit:
    """Whatever is written is refused, at once or by COMMIT."""
    kind, timing = ("CONSTRAINT TRIGGER", "AFTER") if at_commit else ("TRIGGER", "BEFORE")
    rows = "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW" if at_commit else "FOR EACH STATEMENT"
    triggers = "".join(
        f'CREATE {kind} unfit {timing} {_WRITES} ON "{table}" {rows} EXECUTE FUNCTION unfit();' for table in _TABLES
    )
    return Unfit(
        name,
        True,
        "CREATE FUNCTION unfit() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE EXCEPTION 'unfit' USING ERRCODE = '{code}'; END$$; {triggers}",
        "DROP FUNCTION unfit() CASCADE",
        says,
    )


WAYS = (
    Unfit(
        "read-only",
        True,
        f"ALTER DATABASE {NAME} SET default_transaction_read_only = on;;{_END_SESSIONS}",
        f"ALTER DATABASE {NAME} RESET default_transaction_read_only",  # and what is connected stays read-only
        "read-only",
    ),
    _raised("disk full", "53100", "disk is full"),
    _raised("out of memory", "53200", "memory"),
    _raised("a limit", "53400", "limit"),
    _raised("input and output", "58030", "files"),
    _raised("serialization", "40001", "", at_commit=True),
    _raised("disk full at COMMIT", "53100", "disk is full", at_commit=True),
    _refused("no login", f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN", "login"),
    _refused(
        "another password",
        f"ALTER ROLE {ROLE} PASSWORD 'rotated'",
        f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'",
        "login",
    ),
    _refused(
        "no privilege",
        f"REVOKE CONNECT ON DATABASE {NAME} FROM PUBLIC, {ROLE}",
        f"GRANT CONNECT ON DATABASE {NAME} TO PUBLIC, {ROLE}",
        "refuses our connection",
    ),
    _refused(
        "no connections",
        f"ALTER DATABASE {NAME} ALLOW_CONNECTIONS false",
        f"ALTER DATABASE {NAME} ALLOW_CONNECTIONS true",
        "allows no connections",
    ),
    _refused(
        "no connection left",
        f"ALTER DATABASE {NAME} CONNECTION LIMIT 0",
        f"ALTER DATABASE {NAME} CONNECTION LIMIT -1",
        "no connection left",
    ),
    Unfit(
        "no tables in sight",
        False,
        f"ALTER DATABASE {NAME} SET search_path = 'nowhere';;{_END_SESSIONS}",
        f"ALTER DATABASE {NAME} RESET search_path",
        "lacks our tables",
    ),
    Unfit(
        "no rights",
        False,
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}",
        "does not let us use our tables",
    ),
    Unfit(
        "gone by name",
        False,
        f"ALTER DATABASE {NAME} ALLOW_CONNECTIONS false;;{_END_SESSIONS};;ALTER DATABASE {NAME} RENAME TO gone",
        f"ALTER DATABASE gone RENAME TO {NAME};;ALTER DATABASE {NAME} ALLOW_CONNECTIONS true",
        "no database",
    ),
)
