"""`wallet serve` as people run it: up, down, killed, in the way of another."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from redis import Redis

from db.servers.embedded import Servers
from db.servers.process import free_port
from tests.helpers.processes import inside, needs_linux, open_folder
from tests.helpers.third_parties import web_server
from tests.helpers.waiting import GIVE_UP_SECONDS, eventually
from tests.helpers.wallet_processes import server

WALLET = Path(sys.executable).with_name("wallet")
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("WALLET_", "DATABASE_", "REDIS_"))}


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@contextmanager
def serving(folder: Path, port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that has come up; whatever happens, it is gone afterwards."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [WALLET, "serve", "--port", str(port), *arguments],
            cwd=folder,
            env=ENVIRON,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored, if tests run in the background
        )
    try:
        assert eventually(lambda: b"Ctrl-C stops it" in said(folder) or process.poll() is not None)
        assert process.poll() is None, said(folder).decode()
        yield process
    finally:
        process.terminate()
        process.wait(GIVE_UP_SECONDS)


def said(folder: Path) -> bytes:
    return (folder / "output").read_bytes()


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WALLET, *arguments],
        cwd=folder,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=GIVE_UP_SECONDS,
    )


def is_one_sentence(completed: subprocess.CompletedProcess[str]) -> bool:
    return completed.returncode == 1 and completed.stderr.count("\n") == 1 and "Traceback" not in completed.stderr


def addresses(folder: Path) -> dict[str, str]:
    lines = (folder / ".wallet/env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def is_live(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=GIVE_UP_SECONDS).status_code == 200
    return False


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


@needs_linux
def test_it_comes_up_says_where_it_is_has_the_folder_to_itself_and_leaves_nothing_behind(folder: Path) -> None:
    port = free_port()
    with serving(folder, port, "--workers", "2") as server:
        assert is_live(port)
        assert f"http://127.0.0.1:{port}/docs".encode() in said(folder)
        assert b"WALLET_SMS_URL" not in said(folder)  # which is for production

        file = folder / ".wallet/env"
        assert file.stat().st_mode & 0o777 == 0o600
        assert asyncio.run(_count_wallets(addresses(folder)["DATABASE_URL"])) > 0
        assert Redis.from_url(addresses(folder)["REDIS_URL"]).ping()
        password = addresses(folder)["REDIS_URL"].split("@")[0].split(":")[-1]
        assert password.encode() not in said(folder)
        assert not any(password in command for command in inside(folder).values())

        # The commands find a running server by themselves.
        audited = run(folder, "audit")
        assert audited.returncode == 0, audited.stderr
        assert json.loads(audited.stdout.splitlines()[-1])["ok"] is True

        refused = run(folder, "serve", "--port", str(free_port()))
        assert is_one_sentence(refused), refused.stderr
        assert "Another wallet is running in this folder" in refused.stderr
        assert is_live(port)
        assert addresses(folder).keys() == {"DATABASE_URL", "REDIS_URL"}

        server.terminate()
        assert server.wait(GIVE_UP_SECONDS) == 0, said(folder).decode()
        assert not file.exists()
        assert not inside(folder)
        assert refuses(port)


async def _count_wallets(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval('SELECT count(*) FROM "wallet"'))
    finally:
        await connection.close()


@needs_linux
def test_ctrl_c_in_the_terminal_stops_it_cleanly(folder: Path) -> None:
    with serving(folder, free_port()) as server:
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(GIVE_UP_SECONDS) == 0, said(folder).decode()
        assert b"Traceback" not in said(folder)
        assert b"killing it" not in said(folder), said(folder).decode()
        assert not inside(folder)


@needs_linux
def test_an_api_process_that_dies_is_started_again_and_kill_9_takes_everything_along(folder: Path) -> None:
    port = free_port()
    with serving(folder, port) as server:
        (api,) = (pid for pid, command in inside(folder).items() if " api --fd" in command)
        os.kill(api, signal.SIGKILL)
        assert eventually(lambda: b"The API process was killed by SIGKILL; starting it again." in said(folder))
        assert eventually(lambda: is_live(port))
        server.kill()
        assert eventually(lambda: not inside(folder)), inside(folder)
        assert refuses(port)
    with serving(folder, port):  # and goes on with what is there
        assert is_live(port)


def test_a_request_that_was_accepted_is_answered_though_the_server_stops(folder: Path) -> None:
    port = free_port()
    with serving(folder, port) as server:
        body = b'{"phone_number": "+77011234567", "password": "wrong wrong wrong"}'
        head = "POST /users/token/create/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue"
        with socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_SECONDS) as connection:
            connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            assert b"100 Continue" in connection.recv(1024)  # the application is reading by now
            server.terminate()
            assert eventually(lambda: refuses(port))
            connection.sendall(body)
            assert b" 401 " in connection.recv(4096).splitlines()[0]
        assert server.wait(GIVE_UP_SECONDS) == 0, said(folder).decode()


def test_a_taken_port_is_one_sentence_and_nothing_is_started(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = run(folder, "serve", "--port", str(port))
    assert is_one_sentence(refused), refused.stderr
    assert f"Port {port} is taken" in refused.stderr
    assert not (folder / ".wallet").exists()


@pytest.mark.parametrize("command", [("api", "--workers", "2"), ("serve", "--workers", "2")], ids=" ".join)
def test_production_without_a_gateway_is_told_once_what_that_means(
    folder: Path, database_url: str, redis_url: str, command: tuple[str, ...]
) -> None:
    production = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WALLET_ENVIRONMENT": "production",
        "WALLET_SECRET": "0123456789abcdefghijklmnopqrstuvwxyz",
        "WALLET_SMTP_HOST": "127.0.0.1",
    }
    with server(*command, folder=folder, **production) as running:
        running.wait_until_live()
        if command[0] == "serve":
            assert eventually(lambda: "The worker is ready." in running.output.read_text())
    lines = [line for line in running.output.read_text().splitlines() if "WALLET_SMS_URL" in line]
    assert len(lines) == 1
    assert json.loads(lines[0])["level"] == "warning"


async def test_the_demo_says_that_it_reads_no_sms(folder: Path) -> None:
    begun = {"session_id": str(uuid4()), "expires_in": 300, "channels": ["email", "sms"]}
    async with web_server(lambda: (201, json.dumps(begun).encode())) as web:
        refused = await asyncio.to_thread(run, folder, "demo", "--url", web.url)
    assert (refused.returncode, "by SMS, which the demo can't read" in refused.stderr) == (1, True), refused.stderr


GONE = {"DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/x", "REDIS_URL": "redis://:hidden-word@127.0.0.1:1/0"}


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (("serve",), {"WALLET_BNAK_LANES": "1"}, "Did you mean WALLET_BANK_LANES?"),
        (("serve",), {"WALLET_ENVIRONMENT": "production"}, "WALLET_SECRET is missing"),
        (("api",), {}, "DATABASE_URL is missing"),
        (("worker",), {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "REDIS_URL is missing"),
        (("migrate",), {"DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/x"}, "PostgreSQL does not answer"),
        (("audit",), {"DATABASE_URL": "postgresql://u:hidden-word@127.0.0.1:1/x"}, "PostgreSQL does not answer"),
        (("api", "--port", "0"), GONE, "PostgreSQL does not answer"),
        (("demo", "--url", "http://127.0.0.1:1"), {}, "No wallet answers"),
        (("demo", "--url", "127.0.0.1:1"), {}, "is not a URL"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    folder: Path, arguments: tuple[str, ...], environ: dict[str, str], sentence: str
) -> None:
    refused = run(folder, *arguments, **environ)
    assert is_one_sentence(refused), refused.stderr
    assert sentence in refused.stderr
    assert "hidden-word" not in refused.stderr
    assert not (folder / ".wallet").exists()


def test_a_database_that_is_there_but_not_ours_is_told_from_one_that_does_not_answer(
    folder: Path, servers: Servers
) -> None:
    assert servers.database_url
    there = urlsplit(servers.database_url)
    for address, sentence in (
        (there._replace(path="/template1"), "Run `wallet migrate`."),
        (there._replace(path="/nowhere"), "PostgreSQL does not let us in"),
        (there._replace(netloc=there.netloc.replace(there.password or "", "hidden-word")), "does not let us in"),
    ):
        for command in (("audit",), ("api", "--port", "0")):
            refused = run(folder, *command, DATABASE_URL=address.geturl(), REDIS_URL=GONE["REDIS_URL"])
            assert is_one_sentence(refused), refused.stderr
            assert sentence in refused.stderr
            assert "hidden-word" not in refused.stderr
