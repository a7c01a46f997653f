"""What the figures were taken on: without it no two of them can be compared."""

import os
import platform
import statistics
import time
from pathlib import Path

from msgspec import Struct

from db.engine import engine

_FLUSHES = 100
# With more than this on its mind beforehand, a machine is not ours alone.
_BUSY_CORES = 0.3


class Machine(Struct, frozen=True, kw_only=True):
    """Processor, system, servers, and how long a flush of one page to disk takes: commits wait for that."""

    processor: str
    cores: int
    system: str
    python: str
    postgres: str
    fsync: str
    synchronous_commit: str
    flush_ms: float
    cores_busy_before: float  # at work for others, just before

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, {self.system}, Python {self.python}, PostgreSQL {self.postgres}"
            f" (fsync={self.fsync}, synchronous_commit={self.synchronous_commit}); a flush takes {self.flush_ms:.2f} ms"
        )

    @property
    def busy(self) -> bool:
        """Whether others were at work on it."""
        return self.cores_busy_before > _BUSY_CORES


async def look_at_machine(folder: Path, *, cores_busy_before: float) -> Machine:
    """This machine, and the disk under `folder`."""
    settings = {
        name: (await engine().run_ddl(f"SHOW {name}"))[0][name]
        for name in ("server_version", "fsync", "synchronous_commit")
    }
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        postgres=settings["server_version"],
        fsync=settings["fsync"],
        synchronous_commit=settings["synchronous_commit"],
        flush_ms=round(_flush_ms(folder), 3),
        cores_busy_before=round(cores_busy_before, 2),
    )


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _flush_ms(folder: Path) -> float:
    """The median of some writes of 8 KiB, each flushed as PostgreSQL flushes its log."""
    flush = getattr(os, "fdatasync", os.fsync)
    took: list[float] = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(_FLUSHES):
            file.seek(0)
            started_at = time.perf_counter()
            file.write(bytes(8192))
            flush(file.fileno())
            took.append(time.perf_counter() - started_at)
    return statistics.median(took) * 1000
