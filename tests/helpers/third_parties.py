"""The network's other end for tests: a mail server that may refuse, and a web server that answers as it is told."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from ssl import SSLContext
from typing import Any, Literal, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class MailServer:
    """Keeps what it accepts. It gives the answers it was told to MAIL, RCPT and DATA first, in their order."""

    port: int = 0
    mail_answers: list[str] = field(default_factory=list)
    rcpt_answers: list[str] = field(default_factory=list)
    data_answers: list[str] = field(default_factory=list)
    accepted: list[tuple[str, EmailMessage]] = field(default_factory=list)
    attempts: int = 0

    async def handle_MAIL(  # noqa: N802 aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.mail_answers:
            return self.mail_answers.pop(0)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.attempts += 1
        if self.rcpt_answers:
            return self.rcpt_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's name
        if self.data_answers:
            return self.data_answers.pop(0)
        message = message_from_bytes(cast(bytes, envelope.content), policy=policy.default)
        self.accepted.extend((to, message) for to in envelope.rcpt_tos)
        return "250 OK"


@asynccontextmanager
async def mail_server(
    tls: Literal["none", "starttls", "implicit"] = "none",
    context: SSLContext | None = None,
    login: tuple[str, str] | None = None,
) -> AsyncIterator[MailServer]:
    """A real SMTP server on a free port of the loopback, which insists on encryption with `tls`, and on `login`."""
    loop = asyncio.get_running_loop()
    box = MailServer()
    options: dict[str, Any] = {"tls_context": context, "require_starttls": True} if tls == "starttls" else {}
    if login:
        known = LoginPassword(*(each.encode() for each in login))
        options |= {"auth_required": True, "auth_require_tls": False}
        options["authenticator"] = lambda *asked: AuthResult(success=asked[-1] == known, handled=False)
    server = await loop.create_server(
        lambda: _smtp(box, loop, options),
        "127.0.0.1",
        0,
        ssl=context if tls == "implicit" else None,
    )
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()


def _smtp(box: MailServer, loop: asyncio.AbstractEventLoop, options: dict[str, Any]) -> SMTP:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a password without encryption, here on the loopback
        return SMTP(box, hostname="localhost", loop=loop, **options)


@dataclass
class WebServer:
    """Answers every request with what `answer` returns for it: a status and a body."""

    answer: Callable[[], tuple[int, bytes]]
    url: str = ""
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
        self.requests.append(head + await reader.readexactly(length))
        status, body = self.answer()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def web_server(answer: Callable[[], tuple[int, bytes]]) -> AsyncIterator[WebServer]:
    """A real HTTP server on a free port of the loopback."""
    web = WebServer(answer)
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    web.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield web
    finally:
        server.close()
