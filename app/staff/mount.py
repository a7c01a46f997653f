"""What the pages for staff share: applications of their own, mounted, built at the first visit, and bounded."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from litestar.types import Message, Receive, Scope, Send

from app.http.plain_text import fault_of

Built = TypeVar("Built")

BODY_MAX_BYTES = 64 * 1024

POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;"
    b" object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", POLICY),
)


def at_first_visit(build: Callable[[], Built]) -> Callable[[], Awaitable[Built]]:
    """What `build` makes, an application mostly, made in a thread when it is first asked for: the imports take long."""
    built: asyncio.Future[Built] | None = None

    async def app() -> Built:
        nonlocal built
        if built is None:
            built = asyncio.ensure_future(asyncio.to_thread(build))
        return await asyncio.shield(built)

    return app


def path_as_sent(scope: Scope) -> str:
    """The path without what Litestar does to it: it adds a slash, which the mounted routes tell from none."""
    return unquote(scope["raw_path"].decode("ascii", "replace"))


async def whole_body(receive: Receive) -> bytes | None:
    """The body, or None where it is beyond the bound."""
    body = b""
    while len(body) <= BODY_MAX_BYTES:
        message: Any = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body"):
            return body
    return None


def replayed(body: bytes, receive: Receive) -> Any:
    """A `receive` that first gives this body."""
    first: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return first.pop() if first else await receive()

    return replayed


def fault_of_query(scope: Scope) -> str | None:
    """
    What is wrong with the text that somebody looks for; None if nothing is.

    The pages below put some of it into their answers, and into headers of those: a line break would end the header.
    """
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    faults = (fault_of(text) for each in query for text in each)
    return next((fault for fault in faults if fault), None)


def with_headers(send: Send, *, production: bool, keep: bool) -> Any:
    """A `send` that adds the headers every page for staff has. Only what may be kept stays in the browser."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, _ours(name, value, production=production)) for name, value in message["headers"]]
            known = {name.lower() for name, _ in headers}
            ours = _HEADERS if keep else (*_HEADERS, (b"cache-control", b"no-store"))
            message["headers"] = [*headers, *(each for each in ours if each[0] not in known)]
        await send(message)

    return with_headers


def _ours(name: bytes, value: bytes, *, production: bool) -> bytes:
    if name == b"set-cookie" and production and b"; secure" not in value.lower():
        return value + b"; Secure"  # Piccolo says so of the session's cookie alone
    if name == b"location":
        # Starlette makes it of whatever the request calls its host. No page for staff leads to another one.
        return urlunsplit(urlsplit(value)._replace(scheme=b"", netloc=b""))
    return value


async def answer(
    send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], content_type: bytes = b"text/plain"
) -> None:
    """Answer without the mounted application."""
    everything = [
        (b"content-type", content_type + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": everything})
    await send({"type": "http.response.body", "body": body, "more_body": False})
