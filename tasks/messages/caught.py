"""Mail that is caught in development: an SMTP server on the loopback keeps it in Redis, for people to see."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from typing import cast

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

CAUGHT_KEY = "wallet:mailbox"
CAUGHT_MAX = 500

_log = logging.getLogger(__name__)


class CaughtMail(Struct, frozen=True, kw_only=True):
    """An email as it arrived; `sent_at` is when."""

    to: str
    subject: str
    text: str
    sent_at: datetime


class Sink:
    """The receiving end: what aiosmtpd calls with each message."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 its name
        """Keep the message once for each recipient; ask for another attempt where that is not possible now."""
        message = message_from_bytes(cast(bytes, envelope.content), policy=default)
        body = message.get_body(("plain",))
        mails = [
            CaughtMail(
                to=to,
                subject=str(message["Subject"] or ""),
                # An email's lines end in CR LF on the wire; nobody wants to see that.
                text=str(body.get_content() if body else "").replace("\r\n", "\n"),
                sent_at=datetime.now(UTC),
            )
            for to in envelope.rcpt_tos
        ]
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.lpush(CAUGHT_KEY, *(msgspec.json.encode(mail) for mail in mails))
                pipe.ltrim(CAUGHT_KEY, 0, CAUGHT_MAX - 1)
                await pipe.execute()
        except (RedisError, OSError) as error:
            _log.info("A message can't be caught now: %s", type(error).__name__)
            return "451 The mailbox is away, try again later"
        return "250 Kept"


@asynccontextmanager
async def development_smtp(redis: Redis) -> AsyncIterator[int]:
    """Receive mail on a free port of the loopback, which is yielded, as long as the block runs."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd tells every line of every conversation
    loop = asyncio.get_running_loop()
    sink = Sink(redis)
    server = await loop.create_server(
        lambda: SMTP(sink, hostname="localhost", enable_SMTPUTF8=True, loop=loop), host="127.0.0.1", port=0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def caught_mail(redis: Redis, to: str | None = None) -> list[CaughtMail]:
    """What was received, newest first; with `to`, only what went to that address, in whatever case it is written."""
    kept = await cast(Awaitable[list[bytes]], redis.lrange(CAUGHT_KEY, 0, -1))
    mails = (msgspec.json.decode(mail, type=CaughtMail) for mail in kept)
    return [mail for mail in mails if to is None or mail.to.casefold() == to.strip().casefold()]
