"""The embedded servers: they come up, keep what they hold, belong to one owner and outlive none."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from db.servers.embedded import Servers, embedded_servers
from db.servers.process import EmbeddedError
from tests.helpers.processes import inside, needs_linux, needs_root, open_folder
from tests.helpers.waiting import eventually

# An owner that says where its servers are, and keeps them until its standard input ends.
OWNER = """
import sys
from pathlib import Path
from db.servers.embedded import embedded_servers
with embedded_servers(Path(sys.argv[1])) as servers:
    print(servers.database_url, servers.redis_url, flush=True)
    sys.stdin.read()
"""
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@contextmanager
def owner(folder: Path, user: str | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    try:
        yield process
    finally:
        process.communicate()


def sql(url: str | None, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def redis(servers: Servers) -> Redis:
    assert servers.redis_url
    return Redis.from_url(servers.redis_url)


def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        sql(servers.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
        redis(servers).set("kept", 7)
    with embedded_servers(folder) as servers:
        assert sql(servers.database_url, "SELECT n FROM kept") == 7
        assert redis(servers).get("kept") == b"7"


def test_a_server_that_is_not_asked_for_is_not_started(folder: Path) -> None:
    with embedded_servers(folder, postgres=False) as servers:
        assert servers.database_url is None
        assert redis(servers).ping()
        assert [server.name for server in servers.running] == ["Valkey"]


def test_the_password_is_for_the_owner_only_and_stands_on_no_command_line(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        file = servers.folder / "password"
        assert file.stat().st_mode & 0o777 == 0o600
        assert not any(file.read_text() in command for command in inside(folder).values())
        assert servers.redis_url
        assert servers.database_url
        with pytest.raises(asyncpg.InvalidPasswordError):
            sql(servers.database_url.replace(file.read_text(), "wrong"), "SELECT 1")


def test_a_second_owner_is_told_that_another_wallet_runs_here(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        with pytest.raises(EmbeddedError, match="Another wallet is running in this folder"), embedded_servers(folder):
            pass
        assert sql(servers.database_url, "SELECT 1") == 1


@needs_linux
def test_an_end_leaves_no_process_behind(folder: Path) -> None:
    with embedded_servers(folder):
        assert inside(folder)
    assert not inside(folder)


@needs_linux
def test_a_killed_owner_takes_its_servers_along(folder: Path) -> None:
    with owner(folder) as process:
        assert process.stdout
        assert process.stdout.readline()
        assert inside(folder)
        process.kill()
    assert eventually(lambda: not inside(folder)), inside(folder)


@needs_linux
def test_servers_that_a_killed_owner_left_behind_are_stopped_first(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        commands = {server.name: server for server in servers.running}
        ports = {name: server.port for name, server in commands.items()}
        sql(servers.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
    # As they would run where the kernel does not end the children of a dead process.
    orphans = []
    for name, server in commands.items():
        user = pwd.getpwnam(server.user).pw_uid if server.user else None
        orphan = subprocess.Popen(
            [*server.command, server.port_option, str(ports[name])], stdin=subprocess.PIPE, user=user, cwd=server.folder
        )
        assert orphan.stdin
        with orphan.stdin as stdin:
            stdin.write(server.stdin)
        orphans.append(orphan)
    for server, orphan in zip(commands.values(), orphans, strict=True):
        port = ports[server.name]
        assert port
        assert eventually(lambda server=server, port=port: server.ready(port))  # type: ignore[misc]
        assert orphan.poll() is None
    with embedded_servers(folder) as servers:
        assert [orphan.wait(60) for orphan in orphans] == [0, 0]
        assert sql(servers.database_url, "SELECT n FROM kept") == 7


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        user = servers.running[0].user
        pid_files = [servers.folder / "postgres/postmaster.pid", servers.folder / "valkey/valkey.pid"]
    with subprocess.Popen(["sleep", "3600"], user=user) as bystander:
        for pid_file in pid_files:
            pid_file.write_text(f"{bystander.pid}\n")
            shutil.chown(pid_file, user or os.geteuid())
        try:
            with embedded_servers(folder) as servers:
                assert sql(servers.database_url, "SELECT 1") == 1
            assert bystander.poll() is None
        finally:
            bystander.kill()


@needs_linux
def test_an_initdb_that_was_killed_half_way_is_begun_again(folder: Path) -> None:
    with owner(folder) as process:
        assert eventually(lambda: any(folder.glob("data/postgres.new-*/base")))
        process.kill()
    assert not (folder / "data/postgres").exists()
    with embedded_servers(folder) as servers:
        assert sql(servers.database_url, "SELECT 1") == 1


@needs_linux
def test_a_killed_server_comes_back_at_its_address(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        sql(servers.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
        for server in servers.running:
            assert server.process
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
        assert servers.revive() == ["PostgreSQL", "Valkey"]
        assert sql(servers.database_url, "SELECT n FROM kept") == 7
        assert redis(servers).ping()
        assert servers.revive() == []


@needs_linux
@needs_root
def test_root_runs_them_as_somebody_without_rights(folder: Path) -> None:
    with embedded_servers(folder):
        assert {Path(f"/proc/{pid}").owner() for pid in inside(folder)} == {"nobody"}


@needs_root
def test_roots_closed_home_is_no_obstacle(folder: Path) -> None:
    folder.chmod(0o700)
    with embedded_servers(folder, durable=False) as servers:
        assert sql(servers.database_url, "SELECT 1") == 1
        assert redis(servers).ping()
        assert not servers.folder.is_relative_to(folder)
    assert not servers.folder.exists()


@needs_root
def test_an_ordinary_user_needs_no_rights(folder: Path) -> None:
    try:
        subprocess.run([sys.executable, "-c", "import db.servers.embedded"], user="nobody", cwd="/", check=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("others can't use this Python or this checkout")
    shutil.chown(folder, "nobody")
    with owner(folder, user="nobody") as process:
        assert process.stdout
        database_url, redis_url = process.stdout.readline().split()
        assert sql(database_url, "SELECT 1") == 1
        assert Redis.from_url(redis_url).ping()
    assert process.returncode == 0
