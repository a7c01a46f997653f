"""The folder in which processes under one supervisor keep their metrics, so that any of them can answer for all."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Prometheus's library reads it when it is imported, and keeps its numbers in files there instead of in memory.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared_metrics() -> Iterator[dict[str, str]]:
    """What the children's environment needs, as long as the block runs: numbers begin at zero with each start."""
    with tempfile.TemporaryDirectory(prefix="wallet-metrics-") as folder:
        yield {FOLDER_VARIABLE: folder}


def forget_process(pid: int, environ: Mapping[str, str]) -> None:
    """A child has ended: what it counted stays, but not how many orders waited in it at that moment."""
    if folder := environ.get(FOLDER_VARIABLE):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
