"""Seeing which processes live in a folder, and waiting until none does."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="looks at /proc, and only Linux ends orphans by itself"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="wallet-test-")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inside(folder: Path) -> dict[int, str]:
    """The processes that work in a folder or below it, with their command lines."""
    found: dict[int, str] = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cwd").readlink().is_relative_to(folder):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found


def children_of(pid: int) -> dict[int, str]:
    """The processes that one has started, with their command lines."""
    found: dict[int, str] = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "stat").read_text().rsplit(")", 1)[1].split()[1] == str(pid):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found
