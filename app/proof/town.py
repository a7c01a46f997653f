"""What is broken: PostgreSQL and Valkey, API processes behind a cable to the database, a worker, on scratch data."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

from anyio.from_thread import BlockingPortal, start_blocking_portal
from msgspec import Struct
from redis.asyncio import Redis

from actors.rules.fees import FEE_PERIOD
from app.auth.tokens import Lifetimes, Tokens
from app.proof.cable import Cable, cable
from app.proof.wishes import Holder
from app.proof.wrong_clock import MAY_DIFFER
from app.wallets.opening import open_wallet
from db.currencies import CURRENCIES
from db.engine import engine
from db.migrate import migrate
from db.servers.embedded import Servers, embedded_servers
from db.servers.process import LOOPBACK, Server, ask, die_with
from db.tables import User, Wallet
from tasks.rates.store import RATES_KEY

# -P, and a start in another folder: neither code nor `.env` of the present one is taken for ours.
WALLET = (sys.executable, "-P", "-m", "app.cli")
LEASE_SECONDS = 1.0
# Of each process, from the host's: two of them are never further apart than the minute that does no harm.
_CLOCK_WRONG_SECONDS = 30
_FEES_OWED = 3  # by each wallet when it starts
_DAY_SECONDS = 24 * 3600


class Town(Struct, kw_only=True):
    """
    All of it, and how to reach it from the outside.

    Processes are started and killed by one thread of its own: on Linux a child ends with the thread that started it,
    and the clients must not wait for that. The cable has a thread as well: a crowd that is refused asks again at once,
    and must not be what makes the way to the database slow.
    """

    folder: Path
    servers: Servers
    database_url: str  # without the cable
    redis_url: str
    cable: Cable
    portal: BlockingPortal
    apis: list[Server]
    worker: subprocess.Popen[bytes]
    thread: ThreadPoolExecutor
    environment: dict[str, str]

    async def aside(self, work: Callable[[], object]) -> None:
        """Do something with processes, while everything else goes on."""
        await asyncio.get_running_loop().run_in_executor(self.thread, work)

    def on_cable(self, act: Callable[[], None]) -> None:
        """Have the cable do something, such as `cable.unplug`, in its own thread."""
        self.portal.call(act)

    def server(self, name: str) -> Server:
        """The embedded server of this name, `PostgreSQL` or `Valkey`."""
        return next(server for server in self.servers.running if server.name == name)

    def start_worker(self) -> None:
        """A worker, after the last one was killed or stopped."""
        self.worker = _run("worker", self.folder, self.environment)

    def charge_fees(self) -> subprocess.Popen[bytes]:
        """A `wallet fees` that has just begun."""
        return _run("fees", self.folder, self.environment)


@asynccontextmanager
async def town(*, processes: int) -> AsyncIterator[Town]:
    """
    Run it for as long as the block does, in a temporary folder; nothing stays behind.

    Raises:
        EmbeddedError: a server or a process does not start.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="wallet-prove-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o711)  # noqa: ASYNC240 - nobody else is there yet
        inside = ExitStack()
        try:
            servers = await loop.run_in_executor(thread, inside.enter_context, embedded_servers(folder / "data"))
            assert servers.database_url
            assert servers.redis_url
            await migrate(servers.database_url)
            with (
                start_blocking_portal(name="cable") as portal,
                portal.wrap_async_context_manager(cable(servers.database_url)) as to_database,
            ):
                environment = _environment(to_database.url, servers.redis_url)
                apis = [
                    api_process(f"API-{number}", folder, program=_wallet(), environment=environment)
                    for number in range(processes)
                ]
                for api in apis:
                    inside.callback(api.stop)
                    await loop.run_in_executor(thread, api.start)
                made = Town(
                    folder=folder,
                    servers=servers,
                    database_url=servers.database_url,
                    redis_url=servers.redis_url,
                    cable=to_database,
                    portal=portal,
                    apis=apis,
                    worker=await loop.run_in_executor(thread, _run, "worker", folder, environment),
                    thread=thread,
                    environment=environment,
                )
                inside.callback(lambda: _end(made.worker))
                await _until_rates_are_known(servers.redis_url)
                try:
                    yield made
                finally:
                    made.on_cable(to_database.plug)
        finally:
            await loop.run_in_executor(thread, inside.close)


async def settle(people: int, environment: dict[str, str], chance: Random) -> list[Holder]:
    """People with a wallet in each currency, all empty, which owe fees of the last months."""
    tokens = Tokens(environment["WALLET_SECRET"], Lifetimes(access_seconds=_DAY_SECONDS))
    holders: list[Holder] = []
    for number in range(people):
        user = User(email=f"person-{number}@example.com", phone_number=f"+7700{number:07d}", password_hash="!")
        await user.save()
        for currency in CURRENCIES:
            wallet = await open_wallet(user.id, name="Proof", currency=currency)
            due_at = datetime.now(UTC) - _FEES_OWED * FEE_PERIOD + timedelta(seconds=chance.randrange(3600))
            await Wallet.update({Wallet.fee_due_at: due_at}).where(Wallet.id == wallet.id)
            holders.append(
                Holder(
                    wallet_id=wallet.id,
                    number=wallet.wallet_number,
                    currency=currency,
                    user_id=user.id,
                    token=tokens.access(user.id, uuid4()),
                )
            )
    chance.shuffle(holders)
    return holders


def use(database_url: str) -> None:
    """Let this process's own queries go to this database."""
    engine().config["dsn"] = database_url


def _environment(database_url: str, redis_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    return kept | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WALLET_SECRET": secrets.token_hex(32),
        "WALLET_LOG_FORMAT": "json",
        "WALLET_LOCKS_LEASE_SECONDS": str(LEASE_SECONDS),
        "WALLET_POOL_STATEMENT_TIMEOUT_SECONDS": "2",  # how long an answer that never comes is waited for
        "WALLET_BANK_WALLET_MAILBOX_MAX": "40",  # so that a crowd before one wallet is turned away
    }


def _run(command: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    with (folder / f"{command}.log").open("ab") as log:
        return subprocess.Popen(
            [*_wallet(), command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: die_with(parent, signal.SIGTERM),
        )


def _wallet() -> list[str]:
    """The program, with a clock of its own where that can be had."""
    if not MAY_DIFFER:
        return [*WALLET]
    return [sys.executable, "-P", "-m", "app.proof.wrong_clock", str(_CLOCK_WRONG_SECONDS)]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _until_rates_are_known(redis_url: str) -> None:
    async with asyncio.timeout(60), Redis.from_url(redis_url) as redis:
        while not await redis.exists(RATES_KEY):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.1)


def api_process(
    name: str,
    folder: Path,
    *,
    workers: int = 1,
    program: Sequence[str] = WALLET,
    environment: dict[str, str] | None = None,
) -> Server:
    """`wallet api` as a child of this process, run in `folder` as the product runs it; `environment` replaces ours."""
    return Server(
        name=name,
        command=[*program, "api", "--workers", str(workers)],
        port_option="--port",
        folder=folder,
        ready=_is_live,
        stop_signal=signal.SIGTERM,
        environment=environment,
    )


def _is_live(port: int) -> bool:
    request = f"GET /health/live HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()
    return ask(port, request, enough=b"\r\n").startswith(b"HTTP/1.1 200")
