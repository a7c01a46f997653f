"""The folder in which processes under one supervisor keep their metrics, so that any of them can answer for all."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Prometheus's library reads it when it is imported, and keeps its numbers in files there instead of in memory.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared_metrics(folder: Path | None = None) -> Iterator[dict[str, str]]:
    """
    What the children's environment needs, as long as the block runs: numbers begin at zero with each start.

    `folder` is made anew, so that nothing piles up of those who were killed; without it a temporary one is.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="wallet-metrics-") as temporary:
            yield {FOLDER_VARIABLE: temporary}
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield {FOLDER_VARIABLE: str(folder.resolve())}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_process(pid: int, environ: Mapping[str, str]) -> None:
    """A child has ended: what it counted stays, but not how many orders waited in it at that moment."""
    if folder := environ.get(FOLDER_VARIABLE):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
