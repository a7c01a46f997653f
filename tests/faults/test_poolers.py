"""Behind PgBouncer: a pool of sessions serves, others are refused at start, and no migration leaves its lock behind."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from asyncpg.exceptions import ConnectionDoesNotExistError

from db.database_url import Unsuitable
from db.engine import Pool, connection_pool, engine
from db.servers.process import free_port
from db.suitability import check_postgres
from tests.helpers.postgres import connected
from tests.helpers.processes import open_folder
from tests.helpers.waiting import GIVE_UP_SECONDS, eventually
from tests.helpers.wallet_processes import WALLET, environment, run_wallet, server

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs Debian's pgbouncer")

Pooled = Callable[..., str]
OURS = ("enable_seqscan", "plan_cache_mode", "lock_timeout", "idle_in_transaction_session_timeout")

HOLD_THE_LOCK = """
import asyncio
from db.migrate import _alone

async def hold():
    async with _alone():
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.fixture
def pooled(database_url: str) -> Iterator[Pooled]:
    """Starts a PgBouncer before the test's database; the address of the database through it."""
    database = urlsplit(database_url)
    with open_folder() as folder, ExitStack() as stack:

        def start(mode: str, *options: str) -> str:
            port = free_port()
            own = folder / f"{port}"
            own.mkdir()
            (own / "users").write_text(f'"{database.username}" "{database.password}"\n')
            lines = [
                "[databases]",
                f"* = host={database.hostname} port={database.port}",
                "[pgbouncer]",
                "listen_addr = 127.0.0.1",
                f"listen_port = {port}",
                "unix_socket_dir =",
                "auth_type = plain",
                f"auth_file = {own}/users",
                f"pool_mode = {mode}",
                *options,
            ]
            (own / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            assert PGBOUNCER
            process = subprocess.Popen(
                [PGBOUNCER, *user, own / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            url = f"postgresql://{database.username}:{database.password}@127.0.0.1:{port}{database.path}"
            assert eventually(lambda: _is_open(port))
            return url

        yield start


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "options",
    [
        (),
        (f"ignore_startup_parameters = {','.join(OURS)}",),
        ("default_pool_size = 40", "server_round_robin = 1"),
    ],
    ids=["plain", "ignoring", "round-robin"],
)
async def test_a_pool_of_sessions_serves_and_our_settings_arrive(pooled: Pooled, options: tuple[str, ...]) -> None:
    url = pooled("session", *options)
    await check_postgres(url, GIVE_UP_SECONDS)
    engine().config["dsn"] = url
    async with connection_pool(Pool(lock_timeout_seconds=0.5)):
        for setting, value in (
            ("enable_seqscan", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("lock_timeout", "500ms"),
            ("idle_in_transaction_session_timeout", "2s"),
            ("TimeZone", "UTC"),
            ("application_name", "wallet"),
        ):
            rows = await engine()._run_in_pool(f"SHOW {setting}")
            assert [tuple(row) for row in rows] == [(value,)], setting


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("transaction", ()),
        ("transaction", ("server_round_robin = 1",)),
        ("transaction", ("default_pool_size = 1",)),
        ("transaction", ("min_pool_size = 2", "server_round_robin = 1")),
        ("statement", ()),
    ],
)
async def test_a_pool_that_lends_for_a_transaction_is_refused(
    pooled: Pooled, mode: str, options: tuple[str, ...]
) -> None:
    url = pooled(mode, *options)
    for others in (0, 0, 6):  # it has as many connections to lend as were needed at once
        with suppress(ConnectionDoesNotExistError):  # no transactions at all, by statement
            await asyncio.gather(*(_transaction(url) for _ in range(others)))
        with pytest.raises(Unsuitable, match="pool_mode=session"):
            await check_postgres(url, GIVE_UP_SECONDS)


async def _transaction(url: str) -> None:
    async with connected(url) as connection, connection.transaction():
        await connection.execute("SELECT pg_sleep(0.2)")


@pytest.mark.parametrize("command", [("migrate",), ("audit",), ("worker",), ("api", "--port", "0")])
def test_no_command_goes_on_behind_it(pooled: Pooled, redis_url: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    refused = run_wallet(*command, folder=tmp_path, DATABASE_URL=pooled("transaction"), REDIS_URL=redis_url)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "pool_mode=session" in refused.stderr


def test_money_is_served_behind_a_pool_of_sessions(pooled: Pooled, redis_url: str, tmp_path: Path) -> None:
    with server("api", folder=tmp_path, DATABASE_URL=pooled("session"), REDIS_URL=redis_url) as api:
        api.wait_until_live()
        checks = httpx.get(f"{api.url}/health/ready", timeout=GIVE_UP_SECONDS).json()["checks"]
        assert checks["database"]["status"] == "ok"


def test_a_killed_migration_leaves_no_lock_with_the_pooler(pooled: Pooled, database_url: str, tmp_path: Path) -> None:
    """Even one that resets nothing between two clients: the lock ends with the transaction."""
    url = pooled("session", "server_reset_query =")
    process = subprocess.Popen(
        [WALLET.with_name("python"), "-W", "ignore", "-c", HOLD_THE_LOCK],
        env=environment({"DATABASE_URL": url}),
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = run_wallet("migrate", folder=tmp_path, DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (0, "Nothing to migrate.\n"), done.stderr
    assert run_wallet("migrate", folder=tmp_path, DATABASE_URL=database_url).returncode == 0
