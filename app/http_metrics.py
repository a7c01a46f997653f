"""What Prometheus is told of HTTP, under the names that Litestar's own plugin has for it."""

from prometheus_client import Gauge, Histogram

# Its count is also the number of requests: a counter beside it would cost each of them another microsecond.
_SECONDS = Histogram(
    "wallet_http_request_duration_seconds",
    "How long requests took, by the route's template.",
    ["method", "path", "status_code"],
    buckets=[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0],
)
UNDER_WAY = Gauge("wallet_http_requests_in_progress", "Requests under way.", multiprocess_mode="livesum")

_seconds: dict[tuple[str, str, int], Histogram] = {}


def ended(method: str, route: str, status: int, seconds: float) -> None:
    """A request has been answered. Label sets are looked up once: the library takes its time for it."""
    histogram = _seconds.get((method, route, status))
    if histogram is None:
        histogram = _seconds[method, route, status] = _SECONDS.labels(method, route, str(status))
    histogram.observe(seconds)
