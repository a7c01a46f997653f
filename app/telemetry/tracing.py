"""
OpenTelemetry traces of requests, one span a stage of the road, where OTEL_EXPORTER_OTLP_ENDPOINT is set.

Everything else about them (headers, sampling, the service's name) is set by OpenTelemetry's own variables. A batch
carries many orders: each of their traces has the stages of the batch, with the batch's times.
"""

from typing import TYPE_CHECKING

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from actors.engine.mailbox import Passed
from app.logs.requests import route_of
from app.telemetry.middleware import request_id

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "wallet-api"


class Tracing:
    """Makes spans and sends them away in the background, in batches; what can't be sent is dropped."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("wallet")

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """A span for each request, under the caller's own where it sends a `traceparent` (W3C Trace Context)."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            method, route = str(scope.get("method")), route_of(scope)
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            with self._tracer.start_as_current_span(
                f"{method} {route}",
                context=extract(headers),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": method, "http.route": route},
            ) as span:

                async def watched(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                        span.set_attribute("wallet.request_id", request_id(scope))
                        if message["status"] >= 500:
                            span.set_status(StatusCode.ERROR)
                    await send(message)

                await app(scope, receive, watched)

        return traced

    def on_road(self, road: list[Passed]) -> None:
        """The stages that an order of this request has passed, as spans below the request's."""
        for stage in road:
            span = self._tracer.start_span(stage.name, start_time=stage.started_ns)
            span.end(stage.ended_ns)

    def close(self) -> None:
        """Send what has not been sent; takes seconds where nobody takes it."""
        self._provider.shutdown()


def tracing(endpoint: str) -> Tracing | None:
    """Traces for the collector at `endpoint`; None where there is none, and nothing of this is even imported."""
    if not endpoint:
        return None
    # These take a third of a second. The exporter reads the endpoint, and much else, from the environment itself.
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": SERVICE}).merge(OTELResourceDetector().detect()))
    # Of an answer the exporter needs the status and headers. Its own session would read the body too, to whatever end.
    session = requests.Session()
    session.stream = True
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=session)))
    return Tracing(provider)
