"""Prometheus metrics, where they are asked for: settings, and the worker's own small HTTP server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from msgspec import Meta, Struct
from prometheus_client import start_http_server

from db.errors import ReadableError


class Metrics(Struct, frozen=True, kw_only=True):
    """Prometheus metrics: at /metrics, and of a worker that runs by itself on a port of its own."""

    token: str = ""
    """Where set, /metrics wants it as `Authorization: Bearer`. Without it a proxy should keep strangers away."""
    worker_host: str = "127.0.0.1"
    """Where a worker that runs by itself listens for Prometheus."""
    worker_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """And on which port, under any path; 0 for none."""


class MetricsPortTaken(ReadableError):
    """The worker can't listen for Prometheus."""


@contextmanager
def worker_metrics(metrics: Metrics) -> Iterator[None]:
    """
    Answer Prometheus with this process's metrics as long as the block runs, in a thread: a busy worker answers too.

    Raises:
        MetricsPortTaken: somebody else listens there, or we may not.
    """
    if not metrics.worker_port:
        yield
        return
    try:
        server, thread = start_http_server(metrics.worker_port, metrics.worker_host)
    except OSError as error:
        raise MetricsPortTaken(
            f"The worker can't listen for Prometheus on {metrics.worker_host}, port {metrics.worker_port}:"
            f" {error.strerror or error}. Change WALLET_METRICS_WORKER_PORT."
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
