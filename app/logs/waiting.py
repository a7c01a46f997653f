"""Lines of the log that may wait for a moment, so that a busy process writes many of them at once."""

import asyncio
import sys
from contextlib import suppress
from threading import Lock

# Whoever reads the other end of a pipe is woken by every write, which costs more than all else that a line does.
WAIT_SECONDS = 0.1
# POSIX lets nobody's bytes in between those of one write to a pipe up to here (PIPE_BUF), and processes share theirs.
WRITE_BYTES = 4096


class WaitingLines:
    """
    Collects lines and writes them to stderr when they are enough, after `WAIT_SECONDS`, or when someone asks.

    A process that is killed takes its last lines along, so it is for those that
    nobody will miss: that of a request, and not the one that says why it failed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: list[bytes] = []
        self._size = 0
        self._lock = Lock()

    def write(self, line: bytes) -> None:
        """Take a line, without its end; call it inside an event loop."""
        with self._lock:
            if self._size + len(line) >= WRITE_BYTES:
                self._write()
            if not self._lines:
                asyncio.get_running_loop().call_later(WAIT_SECONDS, self.flush)
            self._lines.append(line)
            self._size += len(line) + 1

    def flush(self) -> None:
        """Write the lines that wait."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._lines:
            lines = b"\n".join([*self._lines, b""])
            self._lines.clear()
            self._size = 0
            # No request fails because nobody reads its line.
            with suppress(OSError, ValueError):
                sys.stderr.buffer.write(lines)
                sys.stderr.buffer.flush()


REQUEST_LINES = WaitingLines("app.requests")
