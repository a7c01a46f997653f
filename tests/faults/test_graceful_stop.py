"""Processes that are told to stop under load: nothing that was sent over a connection that stood is left unanswered."""

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from db.engine import Pool, connection_pool
from db.servers.process import free_port
from db.tables import Transaction
from tests.helpers.load import Caller, Dispatcher, Load, Response
from tests.helpers.postgres import assert_audit
from tests.helpers.users import OpenWallet, register
from tests.helpers.waiting import GIVE_UP_SECONDS, eventually
from tests.helpers.wallet_processes import RealServer, wallet

CONFIG = Path(__file__).parents[2] / "docs/deploy/haproxy.cfg"
CALLERS = 12
LINGER_SECONDS = "5"  # the proxy knows after 1.5, on a quiet machine

needs_haproxy = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")


@pytest.fixture
async def addresses(database_url: str, redis_url: str) -> AsyncIterator[dict[str, str]]:
    """What a process needs to know; the pool is for putting people into the database, and for the audit."""
    async with connection_pool(Pool()):
        yield {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        await assert_audit()


class Fleet:
    """`wallet api` processes, each on a port of its own that it keeps when it is started again."""

    def __init__(self, stack: ExitStack, folder: Path, count: int, **variables: str) -> None:
        self._stack = stack
        self._folder = folder
        self._variables = variables
        self.servers = [self._start(free_port()) for _ in range(count)]

    @property
    def ports(self) -> list[int]:
        """Where they listen, or will again."""
        return [int(server.url.rsplit(":", 1)[1]) for server in self.servers]

    async def restart(self, number: int) -> int:
        """Tell one to stop, wait for its end, start it again on its port and wait until it lives. Its exit code."""
        process = self.servers[number].process
        process.terminate()
        code = await asyncio.to_thread(process.wait, GIVE_UP_SECONDS)
        self.servers[number] = self._start(self.ports[number])
        await asyncio.to_thread(self.servers[number].wait_until_live)
        return code

    def _start(self, port: int) -> RealServer:
        process = self._stack.enter_context(wallet("api", "--port", str(port), folder=self._folder, **self._variables))
        return RealServer(process=process, url=f"http://127.0.0.1:{port}", output=self._folder / "output")


@contextmanager
def fleet(folder: Path, count: int, **variables: str) -> Iterator[Fleet]:
    """So many processes, all of them up."""
    with ExitStack() as stack:
        fleet = Fleet(stack, folder, count, **variables)
        for server in fleet.servers:
            server.wait_until_live()
        yield fleet
        for server in fleet.servers:  # all at once; on the way out comes the second signal, so that none lingers
            server.process.terminate()


async def open_wallets(url: str, count: int) -> list[OpenWallet]:
    """Each of another person."""
    async with httpx.AsyncClient(base_url=url, timeout=GIVE_UP_SECONDS) as client:
        return [await (await register(client)).open_wallet() for _ in range(count)]


@asynccontextmanager
async def load_on(dispatcher: Dispatcher, wallets: list[OpenWallet]) -> AsyncIterator[Load]:
    """Deposits as long as the block runs: half of the callers keep their connection, half want a new one each time."""
    load = Load(pause_seconds=0.03)
    deposits = cycle((f"/users/wallets/{each.id}/deposit/", each.owner.token) for each in wallets)
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(dispatcher.watch())
        for number in range(CALLERS):
            tasks.create_task(load.run(Caller(dispatcher), lambda: next(deposits), close=number % 2 == 0))
        try:
            await load.more(200)
            yield load
            await load.more(200)
        finally:
            load.over = True
            looking.cancel()


async def assert_exactly_once(load: Load) -> None:
    """Each request was answered with a deposit of its own, and there are no others."""
    assert load.dropped == []
    assert [answer.body for answer in load.answers if answer.status != 201] == []
    assert {answer.body["id"] for answer in load.answers} == {str(row["id"]) for row in await Transaction.select()}
    assert len(load.answers) == await Transaction.count()


async def test_a_rolling_restart_under_load_drops_nothing(addresses: dict[str, str], tmp_path: Path) -> None:
    with fleet(tmp_path, 2, WALLET_HTTP_LINGER_SECONDS=LINGER_SECONDS, **addresses) as processes:
        wallets = await open_wallets(processes.servers[0].url, 4)
        dispatcher = Dispatcher(processes.ports)
        async with load_on(dispatcher, wallets) as load:
            for number in range(2):
                assert await processes.restart(number) == 0
                await load.more(200)
        await assert_exactly_once(load)


@needs_haproxy
async def test_a_rolling_restart_behind_the_proxy_fails_no_request(addresses: dict[str, str], tmp_path: Path) -> None:
    with fleet(tmp_path, 2, WALLET_HTTP_LINGER_SECONDS=LINGER_SECONDS, **addresses) as processes:
        wallets = await open_wallets(processes.servers[0].url, 4)
        with proxy(tmp_path, processes.ports) as port:
            assert await asyncio.to_thread(eventually, lambda: servers_up(tmp_path) == 2)
            async with load_on(Dispatcher([port]), wallets) as load:
                for number in range(2):
                    assert await processes.restart(number) == 0
                    # As an operator does: the next one only when the proxy counts on this one again.
                    assert await asyncio.to_thread(eventually, lambda: servers_up(tmp_path) == 2)
                    await load.more(200)
        await assert_exactly_once(load)


@needs_haproxy
async def test_the_proxy_keeps_metrics_inside_and_tells_where_a_request_comes_from(
    addresses: dict[str, str], tmp_path: Path
) -> None:
    limited = {"WALLET_ENVIRONMENT": "production", "WALLET_SECRET": "0123456789abcdefghijklmnopqrstuvwxyz"}
    limited |= {"WALLET_SMTP_HOST": "127.0.0.1", "WALLET_LIMITS_REFRESHES_PER_ADDRESS": "1"}
    limited |= {"WALLET_HTTP_TRUSTED_PROXIES": "127.0.0.1"}
    with fleet(tmp_path, 1, **limited, **addresses) as processes, proxy(tmp_path, processes.ports) as port:
        assert await asyncio.to_thread(eventually, lambda: servers_up(tmp_path) == 1)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(timeout=GIVE_UP_SECONDS) as client:
            assert (await client.get(f"{processes.servers[0].url}/metrics")).status_code == 200
            for path in ("/metrics", "/metrics/", "/METRICS", "/%6detrics", "//metrics", "/metrics?x=1"):
                answer = await client.get(url + path)
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path

        async def refresh(address: str, **headers: str) -> int:
            transport = httpx.AsyncHTTPTransport(local_address=address)
            async with httpx.AsyncClient(transport=transport, headers=headers, timeout=GIVE_UP_SECONDS) as client:
                return (await client.post(f"{url}/users/token/refresh/", json={"refresh": "x"})).status_code

        # Each address has a limit of its own, and nobody gets another one by claiming to be somebody else.
        assert [await refresh("127.0.0.2"), await refresh("127.0.0.2")] == [401, 429]
        assert await refresh("127.0.0.2", **{"X-Forwarded-For": "10.9.8.7"}) == 429
        assert await refresh("127.0.0.3") == 401


async def test_who_waits_to_be_accepted_when_the_end_comes_is_answered(
    addresses: dict[str, str], tmp_path: Path
) -> None:
    with fleet(tmp_path, 1, **addresses) as processes:
        (opened,) = await open_wallets(processes.servers[0].url, 1)
        process = processes.servers[0].process
        # While it stands still, the kernel sets up connections that nobody accepts.
        process.send_signal(signal.SIGSTOP)
        try:
            path, token = f"/users/wallets/{opened.id}/deposit/", opened.owner.token
            callers = [Caller(Dispatcher(processes.ports)) for _ in range(50)]
            asked = [asyncio.create_task(each.ask("POST", path, {"amount": "1"}, token=token)) for each in callers]
            while not all(each.has_asked for each in callers):  # noqa: ASYNC110 - plain to read
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # two of its ticks: it looks whether it is to leave before it reads what was asked
            process.terminate()
        finally:
            process.send_signal(signal.SIGCONT)
        answers: list[Response] = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [201] * 50
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        assert await asyncio.to_thread(process.wait, GIVE_UP_SECONDS) == 0


async def test_a_second_signal_ends_the_lingering(addresses: dict[str, str], tmp_path: Path) -> None:
    with fleet(tmp_path, 1, WALLET_HTTP_LINGER_SECONDS="3600", **addresses) as processes:
        process = processes.servers[0].process
        caller = Caller(Dispatcher(processes.ports))
        assert (await caller.ask("GET", "/health/ready")).status == 200
        process.terminate()
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while (ready := await caller.ask("GET", "/health/ready")).status == 200:
            assert time.monotonic() < give_up_at
        assert (ready.status, ready.body["status"], ready.headers["connection"]) == (503, "down", "close")
        assert ready.body["checks"]["process"]["status"] == "down"
        assert (await caller.ask("GET", "/health/live")).status == 200  # whoever asks all the same is served
        process.terminate()
        assert await asyncio.to_thread(process.wait, GIVE_UP_SECONDS) == 0


@contextmanager
def proxy(folder: Path, ports: list[int]) -> Iterator[int]:
    """The proxy of docs/deploy before these servers, which here have no name of their own; the port it listens on."""
    port = free_port()
    config = CONFIG.read_text()
    for line, ours in {
        "    bind :8080\n": f"    bind 127.0.0.1:{port}\n",
        "    server-template api 16 api:8000 resolvers docker init-addr none\n": "".join(
            f"    server api{number} 127.0.0.1:{port}\n" for number, port in enumerate(ports)
        ),
        "    log stdout format raw local0\n": f"    stats socket {folder}/proxy.sock\n",
    }.items():
        assert config.count(line) == 1, line
        config = config.replace(line, ours)
    file = folder / "haproxy.cfg"
    file.write_text(config)
    with (folder / "proxy").open("wb") as output:
        process = subprocess.Popen(["haproxy", "-f", file], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def servers_up(folder: Path) -> int:
    """How many servers the proxy counts on."""
    with socket.socket(socket.AF_UNIX) as asking:
        if asking.connect_ex(str(folder / "proxy.sock")):
            return 0  # the proxy is not up itself
        asking.sendall(b"show stat\n")
        rows = b"".join(iter(lambda: asking.recv(65536), b"")).decode().splitlines()
    return sum(row.startswith("api,api") and ",UP," in row for row in rows)
