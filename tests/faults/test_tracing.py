"""Traces, as a collector that speaks OTLP over HTTP receives them."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import httpx
from litestar import Litestar
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.auth.tokens import Lifetimes, Tokens
from app.settings import Settings
from tests.helpers.users import register
from tests.helpers.wallet_processes import server

SECRET = "a secret of at least thirty-two bytes"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ROAD = ["mailbox", "lock", "load", "rules", "save", "commit"]


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """Its address, and the spans that it has been sent by the end of the block."""
    spans: list[Span] = []
    services: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                services.update(
                    each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                )
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            assert self.path == "/v1/traces"
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}", spans
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
    assert services == {"wallet-api"}


async def test_a_transfer_is_one_trace_with_a_span_a_stage(app: Litestar, settings: Settings, tmp_path: Path) -> None:
    """`app` is only there for its database and for the audit in the end."""
    addresses = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "WALLET_SECRET": SECRET}
    with collector() as (endpoint, spans):
        with server("api", folder=tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **addresses) as api:
            api.wait_until_live()
            async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
                tokens = Tokens(SECRET, Lifetimes())
                alice, bob = await register(client, tokens), await register(client, tokens)
                one, other = await alice.open_wallet(holding="10.00"), await bob.open_wallet()
                headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-ID": "told-by-the-client"}
                for amount, status in (("7.00", 201), ("7.00", 400)):
                    body = {"wallet_number": other.number, "amount": amount}
                    path = f"/users/wallets/{one.id}/transfer/"
                    assert (await alice.request("POST", path, json=body, headers=headers)).status_code == status
        # The process has ended, so everything that it had to say has been said.
        of_trace = [span for span in spans if span.trace_id.hex() == TRACE]
    requests = sorted((span for span in of_trace if span.parent_span_id.hex() == CALLER), key=_started)
    assert [span.name for span in requests] == ["POST /users/wallets/{id}/transfer"] * 2
    assert [_attribute(span, "http.response.status_code") for span in requests] == ["201", "400"]
    assert {_attribute(span, "wallet.request_id") for span in requests} == {"told-by-the-client"}
    for request, road in zip(requests, (ROAD, [stage for stage in ROAD if stage != "save"]), strict=True):
        stages = sorted((span for span in of_trace if span.parent_span_id == request.span_id), key=_started)
        assert [span.name for span in stages] == road
        for span, following in pairwise(stages[1:]):
            assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= following.start_time_unix_nano
        assert stages[-1].end_time_unix_nano <= request.end_time_unix_nano
    # Neither whose wallet it was nor how much: a trace goes to another house.
    assert not any(secret in str(span) for span in spans for secret in (one.number, other.number, alice.token, "7.00"))
    assert any(span.name == "POST /users/wallets/create" for span in spans)


async def test_a_collector_that_is_not_there_is_no_harm(app: Litestar, settings: Settings, tmp_path: Path) -> None:
    addresses = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "WALLET_SECRET": SECRET}
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with server("api", folder=tmp_path, **nowhere, **addresses) as api:
        api.wait_until_live()
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
            wallet = await (await register(client, Tokens(SECRET, Lifetimes()))).open_wallet(holding="10.00")
            assert await wallet.balance() == 10


def _started(span: Span) -> int:
    return span.start_time_unix_nano


def _attribute(span: Span, key: str) -> str | None:
    for each in span.attributes:
        if each.key == key:
            return each.value.string_value or str(each.value.int_value)
    return None
