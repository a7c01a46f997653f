"""`/dev/mailbox/`: mail that was caught in development, to read in a browser or from a test."""

import re
from html import escape
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from redis.asyncio import Redis

from tasks.messages.caught import CaughtMail, caught_mail

_STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: #8889; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; }
header p { margin: .2rem 0 1.5rem; opacity: .7; }
form { display: flex; gap: .5rem; margin-bottom: 1.5rem; }
input { flex: 1; min-width: 0; font: inherit; padding: .4rem .7rem; }
input, button { border: 1px solid var(--soft); border-radius: .5rem; }
button { font: inherit; padding: .4rem 1rem; cursor: pointer; }
article { border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.25rem; margin-bottom: 1rem; }
article h2 { font-size: 1.05rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
article small { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; opacity: .7; }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: .8rem 0 0; }
.empty { border: 1px dashed var(--soft); border-radius: .75rem; padding: 2.5rem; text-align: center; opacity: .7; }
"""

_HEADERS = {
    "Cache-Control": "no-store",
    # The page shows text from outside: it is escaped, and nothing in it could run or load anything all the same.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Vary": "Accept",
}


_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:]+)\]|(?P<name>[a-z0-9.-]+))(?::\d+)?", re.ASCII | re.IGNORECASE)


def mailbox_route(public_url: str) -> HTTPRouteHandler:
    """`GET /dev/mailbox/`. Development only: in production this route does not exist."""
    public_host = urlsplit(public_url).hostname or ""

    @get("/dev/mailbox", include_in_schema=False)
    async def read(
        request: Request[Any, Any, Any],
        redis: NamedDependency[Redis],
        to: FromQuery[str | None] = None,
    ) -> Response[bytes]:
        """The messages, newest first, `?to=` an address only: a page, or JSON where the client asks for it."""
        # A page that a developer visits could have its own name resolve to this machine, and read codes here.
        if not is_here(request.headers.get("host", ""), public_host):
            raise HTTPException(
                "Ask for the mailbox at 127.0.0.1 or localhost, or by the host name in WALLET_PUBLIC_URL.",
                status_code=HTTPStatus.MISDIRECTED_REQUEST,
            )
        mails = await caught_mail(redis, to or None)
        if request.accept.best_match(["text/html", "application/json"]) == "application/json":
            return Response(msgspec.json.encode(mails), media_type=MediaType.JSON, headers=_HEADERS)
        return Response(page(mails, to or "").encode(), media_type=MediaType.HTML, headers=_HEADERS)

    return read


def is_here(host: str, public_host: str) -> bool:
    """Whether a `Host` header names this machine (RFC 6761, 6.3, for `localhost`), or the host that clients use."""
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = (parts["v6"] or parts["name"]).lower()
    if name == public_host or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def page(mails: list[CaughtMail], to: str) -> str:
    """The mailbox as an HTML page that needs nothing else to show."""
    found = "".join(_article(mail) for mail in mails)
    empty = f"No mail for {escape(to)} yet." if to else "No mail yet. Register someone and look again."
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mailbox</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        "<header><h1>Mailbox</h1><p>What would have been sent. In development nothing leaves this machine.</p></header>"
        '<form><input name="to" type="search" aria-label="Recipient" placeholder="Only mail to this address"'
        f' value="{escape(to)}"><button>Show</button></form>'
        f"<main>{found or f'<p class=empty>{empty}</p>'}</main></body></html>"
    )


def _article(mail: CaughtMail) -> str:
    return (
        f"<article><h2>{escape(mail.subject)}</h2><small><span>to {escape(mail.to)}</span>"
        f'<time datetime="{mail.sent_at.isoformat()}">{mail.sent_at:%d %B %Y, %H:%M:%S} UTC</time></small>'
        f"<pre>{escape(mail.text)}</pre></article>"
    )
