"""Fewer file descriptors than connections may come: told at start, and when somebody is refused for it."""

import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx

from db.servers.process import free_port
from tests.helpers.waiting import GIVE_UP_SECONDS, eventually
from tests.helpers.wallet_processes import WALLET, RealServer, environment

FILES = 140

USES_THEM_UP = """
import logging, os, resource
logging.basicConfig()
from app.server.descriptors import make_room, say_if_none_is_left
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 600))
assert make_room(300) == 300, "the system allows more than it gives"
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, 600)
say_if_none_is_left()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True: taken.append(os.dup(1))
except OSError: pass
say_if_none_is_left()
say_if_none_is_left()
"""


def test_too_few_are_told_at_start_and_whoever_is_refused_for_it_once(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    port, output = free_port(), tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            ["sh", "-c", f"ulimit -n {FILES} && exec {WALLET} api --port {port}"],
            cwd=tmp_path,
            env=environment({"DATABASE_URL": database_url, "REDIS_URL": redis_url}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    server = RealServer(process=process, url=f"http://127.0.0.1:{port}", output=output)
    try:
        server.wait_until_live()
        assert output.read_text().count(f"only {FILES} files: it serves {FILES // 2} connections at a time") == 1
        with ExitStack() as stack:
            for _ in range(FILES * 2):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_SECONDS))
            assert eventually(lambda: "more are answered 503" in output.read_text())
        assert eventually(lambda: httpx.get(f"{server.url}/health/live", timeout=GIVE_UP_SECONDS).is_success)
        assert output.read_text().count("more are answered 503") == 1
        assert "Traceback" not in output.read_text()
    finally:
        process.terminate()
        process.wait(GIVE_UP_SECONDS)


def test_its_own_limit_is_raised_and_that_none_is_left_is_said_once(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= 600
    done = subprocess.run(
        [sys.executable, "-c", USES_THEM_UP], capture_output=True, text=True, check=False, timeout=GIVE_UP_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert "no file descriptor is left" in done.stderr
