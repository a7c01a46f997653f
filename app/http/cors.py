"""
Pages of other origins that may use the API from a browser (the CORS protocol of https://fetch.spec.whatwg.org/).

Litestar's own tells every origin of methods and headers, and overwrites `Vary`. This tells only those that are named.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = b"GET, POST, PATCH, DELETE"
_HEADERS = b"Authorization, Content-Type, Idempotency-Key, X-Request-ID"
_EXPOSED = b"Link, Idempotent-Replayed, X-Request-ID, RateLimit, RateLimit-Policy, Retry-After"
_PREFLIGHT_SECONDS = b"600"


def check_origin(text: str) -> None:
    """
    Raises:
        ValueError: it is not an origin as browsers write it; no other text would ever match.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "*" in text:
        raise ValueError(f"{text!r} is not an origin, such as https://shop.example. There is no '*' for all of them.")
    default = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    written = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")
    if text != written:
        raise ValueError(f"{text!r} is not how browsers write an origin. Did you mean {written}?")


def across_origins(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """The application for pages of these origins too; the application itself where there are none."""
    if not origins:
        return app
    allowed = frozenset(origin.encode() for origin in origins)

    async def across(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        # Whatever the answer is, another origin may get another one.
        ours: list[tuple[bytes, bytes]] = [(b"vary", b"Origin")]
        if origin in allowed:
            ours.append((b"access-control-allow-origin", origin))
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await _allow(send, ours)
                return
            ours.append((b"access-control-expose-headers", _EXPOSED))

        async def send_across(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await app(scope, receive, send_across)

    return across


async def _allow(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    """The answer to a preflight; which paths there are is not told."""
    headers = [
        *headers,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
