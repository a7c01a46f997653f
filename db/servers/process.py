"""A server program as a child of this process, on a loopback port of its own, that lives no longer than we do."""

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from msgspec import Struct

from db.errors import ReadableError

LOOPBACK = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 60
START_ATTEMPTS = 3

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class EmbeddedError(ReadableError):
    """An embedded server can't be had."""


class As(TypedDict, total=False):
    """The arguments of `subprocess` that say which user runs a command; empty for the present one."""

    user: int
    group: int
    extra_groups: list[int]


def as_user(name: str | None) -> As:
    """Run as `name`, with that user's own group only; as ourselves where it is None."""
    if name is None:
        return {}
    user = pwd.getpwnam(name)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server(Struct, kw_only=True):
    """
    How to run one server, and its process once it runs.

    Start it from the main thread: on Linux the kernel ends a child together with the *thread* that started it.
    """

    name: str
    command: list[str | Path]
    port_option: str
    folder: Path
    ready: Callable[[int], bool]
    stop_signal: signal.Signals
    stdin: bytes = b""
    user: str | None = None
    environment: dict[str, str] | None = None
    port: int | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the server has said since its last start."""
        return self.folder / f"{self.name.lower()}.log"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """
        Run it and return once it answers. A second start keeps the port: its address is known to others by then.

        A free port may be taken before the server gets there, and a database whose server was killed stays busy for
        a moment; so it tries more than once.

        Raises:
            EmbeddedError: it does not answer; with the end of its log.
        """
        for _ in range(START_ATTEMPTS):
            port = self.port or free_port()
            self.process = self._spawn(port)
            if self._answers(port):
                self.port = port
                return
            self.stop()
            time.sleep(0.2)
        last_words = self.log.read_text(errors="replace").strip()[-1000:]
        raise EmbeddedError(f"{self.name} does not start. The end of {self.log}:\n{last_words}")

    def interrupt(self) -> None:
        """Ask it to stop, without waiting."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask it to stop and wait; end it by force where that takes over a minute."""
        if self.process is None:
            return
        self.interrupt()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*self.command, self.port_option, str(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone; we stop the servers last
                preexec_fn=lambda: die_with(parent, self.stop_signal),
                **as_user(self.user),
            )
        assert process.stdin
        with process.stdin as stdin, suppress(BrokenPipeError):
            stdin.write(self.stdin)
        return process

    def _answers(self, port: int) -> bool:
        give_up_at = time.monotonic() + START_SECONDS
        while self.alive and time.monotonic() < give_up_at:
            if self.ready(port):
                return True
            time.sleep(0.01)
        return False


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, message: bytes, enough: bytes) -> bytes:
    """
    What a server answers to `message`, read until `enough` is in it or it says no more; empty where nobody listens.

    A raw socket, since client libraries retry with pauses that are longer than a whole start.
    """
    answer = b""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1) as connection:
        connection.sendall(message)
        while enough not in answer and (more := connection.recv(1024)):
            answer += more
    return answer


def stop_orphan(folder: Path, pid_file: Path, stop_signal: signal.Signals) -> None:
    """
    Stop the server that a killed owner left running in `folder`, and wait until nothing of it is left.

    Then the file goes: its process id may be another program's by now, and PostgreSQL would take that for itself.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    give_up_at = time.monotonic() + STOP_SECONDS
    if pid in _processes(folder, pid):
        with suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
    # A killed postmaster's backends end by themselves; until then nobody else may touch their files.
    while left := _processes(folder, pid):
        if time.monotonic() > give_up_at:
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        time.sleep(0.02)
    pid_file.unlink(missing_ok=True)


def _processes(folder: Path, pid: int) -> set[int]:
    """The processes that work in `folder`, as both servers do. Without /proc: `pid`, if it was started with it."""
    if sys.platform != "linux":
        ps = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return {pid} if str(folder) in ps.stdout else set()
    found: set[int] = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended, or is none of ours
            if process.name.isdecimal() and (process / "cwd").readlink() == folder:
                found.add(int(process.name))
    return found


def die_with(parent: int, stop_signal: int) -> None:
    """
    In the child, before it becomes the server: have the kernel stop it when its parent dies, even by kill -9.

    Elsewhere than on Linux the server stays, and the next start finds it with `stop_orphan`.
    """
    if _libc:
        _libc.prctl(_PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)
