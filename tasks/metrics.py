"""Prometheus metrics, where they are asked for: settings, and the worker's own small HTTP server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from msgspec import Meta, Struct
from prometheus_client import start_http_server

from db.errors import ReadableError


class Metrics(Struct, frozen=True, kw_only=True):
    """Prometheus metrics. The API serves them at /metrics, a separate worker on a port of its own."""

    token: str = ""
    """If set, the API's /metrics requires it as `Authorization: Bearer`. If not, a proxy should hide /metrics."""
    worker_host: str = "127.0.0.1"
    """The address on which a separate worker serves metrics."""
    worker_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """The port on which it serves them, under any path. 0: no metrics."""


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
