"""
Real processes of the `wallet` command, each in a folder of the test's own and on the database that it is given; and the
rates that a worker would have published.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

import httpx
from msgspec import Struct

from db.servers.process import free_port
from tests.helpers.waiting import GIVE_UP_SECONDS

WALLET = Path(sys.executable).with_name("wallet")

# A busy machine may keep Redis and the holder of a row from answering for longer than the product would have it.
PATIENT = {"WALLET_LOCKS_ANSWER_SECONDS": "30", "WALLET_POOL_LOCK_TIMEOUT_SECONDS": "30"}


class RealServer(Struct, frozen=True, kw_only=True):
    """A process that answers HTTP at `url`; what it says goes to the file `output`."""

    process: subprocess.Popen[bytes]
    url: str
    output: Path

    def wait_until_live(self) -> None:
        """Return once `/health/live` is answered; a process that ended, or does not come up, fails the test."""
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up_at and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health/live", timeout=5).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"{self.url} does not come up:\n{self.output.read_text()}")


@contextmanager
def wallet(*arguments: str, folder: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`wallet …` for as long as the block runs, asked to end afterwards. Its output goes to `folder`/output."""
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            [WALLET, *arguments],
            cwd=folder,
            env=environment(PATIENT | variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextmanager
def server(*command: str, folder: Path, **variables: str) -> Iterator[RealServer]:
    """`wallet api` or `wallet serve` on a free port; it may still be starting, see `wait_until_live`."""
    port = free_port()
    with wallet(*command, "--port", str(port), folder=folder, **variables) as process:
        yield RealServer(process=process, url=f"http://127.0.0.1:{port}", output=folder / "output")


@contextmanager
def api_servers(count: int, *, database_url: str, redis_url: str, folder: Path) -> Iterator[list[RealServer]]:
    """So many separate `wallet api` processes on one database and one Redis, all of them up."""
    with ExitStack() as stack:
        started = []
        for number in range(count):
            own = folder / f"api-{number}"
            own.mkdir()
            addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
            started.append(stack.enter_context(server("api", folder=own, **addresses)))
        for each in started:
            each.wait_until_live()
        yield started


def run_wallet(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A `wallet` command that ends by itself: its exit code and what it said."""
    return subprocess.run(
        [WALLET, *arguments],
        cwd=folder,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=GIVE_UP_SECONDS,
    )


def environment(variables: dict[str, str]) -> dict[str, str]:
    """This process's environment without anything that configures a wallet, and `variables`."""
    ours = {"DATABASE_URL", "REDIS_URL"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_") and name not in ours}
    return kept | variables


class Spread(httpx.AsyncBaseTransport):
    """Sends each request to the next server in turn, whatever host it names, as a load balancer would."""

    def __init__(self, servers: list[RealServer]) -> None:
        self._urls = cycle([httpx.URL(each.url) for each in servers])
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = next(self._urls)
        request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()
