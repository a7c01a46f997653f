"""Keeps child processes running: restarts those that die, gives up where that does not help, stops them in order."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from app.telemetry.shared_metrics import forget_process
from db.errors import ReadableError

# A child that ends sooner than this has not come up, and one that does so as often as this never will.
UP_SECONDS = 10
ATTEMPTS = 3
BACKOFF_SECONDS = 0.5
STOP_SECONDS = 50

_log = logging.getLogger(__name__)


class GivenUp(ReadableError):
    """A child process does not stay up."""


class Child:
    """One process of ours, started again whenever it dies."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        fds: Sequence[int] = (),
        *,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.name = name
        self._stop_seconds = stop_seconds
        # -P: a folder named `app` where the command was given must not be taken for ours.
        self._command = (sys.executable, "-P", "-m", "app.cli", *arguments)
        self._environ = environ
        self._fds = fds
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def keep_running(self) -> None:
        """
        Run it until `stop`.

        Raises:
            GivenUp: it died right after its start, several times in a row.
        """
        early_deaths = 0
        while not self._stopping:
            started_at = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environ,
                pass_fds=self._fds,
                stdin=asyncio.subprocess.PIPE,  # never written to: its end tells the child that we are gone
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone
            )
            code = await self._process.wait()
            forget_process(self._process.pid, self._environ)
            if self._stopping:
                return
            early_deaths = early_deaths + 1 if time.monotonic() - started_at < UP_SECONDS else 0
            if early_deaths == ATTEMPTS:
                raise GivenUp(
                    f"The {self.name} process ended {ATTEMPTS} times right after its start; it says why above."
                )
            _log.warning("The %s process %s; starting it again.", self.name, _how_it_ended(code))
            await asyncio.sleep(BACKOFF_SECONDS * 2**early_deaths)

    async def stop(self) -> None:
        """Ask it to end and wait; by force where that takes too long."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except TimeoutError:
            _log.warning("The %s process does not stop; killing it.", self.name)
            process.kill()
            await process.wait()


async def supervise(
    groups: Sequence[Sequence[Child]], *beside: Callable[[], Awaitable[object]], at_stop: Callable[[], object]
) -> None:
    """
    Keep the children running, with the functions `beside` them, until Ctrl-C, SIGTERM or SIGHUP.

    Then `at_stop` is called, and the groups are stopped one after another.

    Raises:
        GivenUp: a child does not stay up. The others have been stopped.
    """
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, asked_to_stop.set)

    stop = asyncio.create_task(_run(asked_to_stop.wait))
    tasks = [asyncio.create_task(child.keep_running()) for group in groups for child in group]
    tasks += [asyncio.create_task(_run(function)) for function in beside]
    try:
        waiting: set[asyncio.Task[None]] = {stop, *tasks}
        while not stop.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        at_stop()
        for group in groups:
            await asyncio.gather(*(child.stop() for child in group))
        for task in (stop, *tasks):
            task.cancel()
        await asyncio.gather(stop, *tasks, return_exceptions=True)


async def _run(function: Callable[[], Awaitable[object]]) -> None:
    await function()


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def end_with_supervisor() -> None:
    """
    Die at once when the supervisor does, however it ends.

    Our standard input is a pipe that it holds open and never writes to, so the end of it is the end of the supervisor.
    """

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, name="end with supervisor", daemon=True).start()
