"""
Out with what is owed: claim, send, mark.

A message goes out at least once, almost always exactly once. A worker that dies between sending a message and marking
it sent can't know that it was sent, so after the lease another worker sends it again; no order of these steps avoids
both a loss and a repetition. The repetition has the same Message-ID.
"""

import asyncio
import logging
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from structlog.contextvars import bind_contextvars, unbind_contextvars

from db.engine import UNAVAILABLE
from db.tables import Message
from tasks.messages.mail import NotSent, Smtp, look_at_certificate, send_mail
from tasks.messages.sealing import NotOurs, Seal
from tasks.messages.sms import SmsGateway, send_sms
from tasks.messages.templates import CODE_LIFETIME_SECONDS, UnknownTemplate, write

# Nobody else sends a claimed message before this. Longer than one attempt may take, so that only a death lets it pass.
LEASE_SECONDS = 60
ATTEMPT_SECONDS = 30.0
MARK_PAUSES_SECONDS = (0.5, 1, 2, 4, 8)

# Pauses after a failed attempt: 5 s, 15 s, 45 s … up to 6 hours. The last of 12 attempts comes about a day later.
FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 6 * 3600
MAX_ATTEMPTS = 12

# How many connections one run opens at once, and how long it goes on while there is more.
CLAIM_MAX = 8
RUN_SECONDS = 45.0

# Codes first: they are dead in minutes, and must not queue behind ten thousand notices on a fee day.
_CLAIM = """
WITH due AS (
    SELECT id FROM message WHERE sent_at IS NULL AND next_attempt_at <= now()
    ORDER BY (sealed IS NULL), next_attempt_at LIMIT {} FOR UPDATE SKIP LOCKED
)
UPDATE message SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => {})
FROM due WHERE message.id = due.id AND message.sent_at IS NULL AND message.next_attempt_at <= now()
RETURNING message.id, message.channel, message.template, message.params, message.sealed, message.attempts,
    message.request_id, now() - message.created_at AS age,
    coalesce(message.recipient, (
        SELECT CASE message.channel WHEN 'sms' THEN phone_number ELSE email END FROM "user" WHERE id = message."user"
    )) AS recipient
"""
_SENT = """
UPDATE message SET sent_at = now(), next_attempt_at = NULL, sealed = NULL, last_error = NULL
WHERE id = {} AND sent_at IS NULL
"""
# Only the attempt that failed may say when the next one is: a slow one must not shorten a later one's lease.
_AGAIN = """
UPDATE message SET next_attempt_at = now() + make_interval(secs => {}), last_error = {}
WHERE id = {} AND attempts = {} AND sent_at IS NULL AND next_attempt_at IS NOT NULL
"""
_GIVEN_UP = """
UPDATE message SET next_attempt_at = NULL, sealed = NULL, last_error = {}
WHERE id = {} AND attempts = {} AND sent_at IS NULL
"""

_log = logging.getLogger(__name__)


class Delivered(Struct, kw_only=True):
    """What a run of deliveries did, in messages."""

    sent: int = 0
    failed: int = 0  # to be tried again
    given_up: int = 0


class Claim(Struct, frozen=True, kw_only=True):
    """A message that is ours to send until its lease runs out."""

    id: UUID
    channel: str
    template: str
    params: dict[str, str]
    sealed: bytes | None
    attempts: int
    age: timedelta
    recipient: str | None
    request_id: str | None


class Delivery:
    """Sends what is due, by email and SMS."""

    def __init__(self, secret: str, smtp: Smtp, sms: SmsGateway) -> None:
        self._seal = Seal(secret)
        self._smtp = smtp
        self._sms = sms

    async def look_at_mail_server(self) -> None:
        """Warn of a mail server that no message will be handed to, before there is one."""
        await look_at_certificate(self._smtp)

    async def run(self, stop: asyncio.Event | None = None) -> Delivered:
        """
        Send until nothing is due, `stop` is set, or for `RUN_SECONDS`; several runs at once share the work.

        Raises what the database raises when it can't be reached: what was claimed is due again after its lease.
        """
        delivered, ends_at = Delivered(), time.monotonic() + RUN_SECONDS
        while time.monotonic() < ends_at and not (stop and stop.is_set()):
            claims = await claim(CLAIM_MAX)
            # One that fails must not stop the others in the middle of a conversation with the mail server.
            ends = await asyncio.gather(*(self._attempt(each, delivered) for each in claims), return_exceptions=True)
            for end in ends:
                if end is not None:
                    raise end
            if len(claims) < CLAIM_MAX:
                break
        return delivered

    async def _attempt(self, message: Claim, delivered: Delivered) -> None:
        _log_under(message.request_id)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await self._send(message)
        except NotSent as reason:
            await self._not_sent(message, str(reason), reason.permanent, delivered)
        except UnknownTemplate as reason:
            _log.error("a message can't be written: %s", reason, extra=_fields(message))
            await self._not_sent(message, "this worker can't write the message", False, delivered)
        except TimeoutError:
            await self._not_sent(message, "no answer in time", False, delivered)
        except Exception as error:  # noqa: BLE001 one message that can't be handled must not keep others from going out
            # Never with its text: whatever went wrong while a message was handled may quote it.
            _log.error("a message could not be sent: %s", type(error).__name__, extra=_fields(message))
            await self._not_sent(message, f"unexpected ({type(error).__name__})", False, delivered)
        else:
            await _mark(_SENT, message.id)
            delivered.sent += 1
            _log.info("a message was sent", extra=_fields(message))

    async def _send(self, message: Claim) -> None:
        if message.attempts > MAX_ATTEMPTS:
            raise NotSent("too many attempts", permanent=True)
        if not message.recipient:
            raise NotSent("there is nobody to send it to", permanent=True)
        if message.sealed and message.age.total_seconds() >= CODE_LIFETIME_SECONDS:
            raise NotSent("the code has expired", permanent=True)
        try:
            code = self._seal.open(message.sealed) if message.sealed else None
        except NotOurs as reason:
            raise NotSent(str(reason), permanent=True) from None
        letter = write(message.template, message.params, code)
        if message.channel == "sms":
            if not letter.short:
                raise NotSent("this message is not for SMS", permanent=True)
            await send_sms(self._sms, to=message.recipient, text=letter.short, reference=str(message.id))
        else:
            await send_mail(self._smtp, to=message.recipient, letter=letter, reference=str(message.id))

    async def _not_sent(self, message: Claim, reason: str, permanent: bool, delivered: Delivered) -> None:
        if permanent or message.attempts >= MAX_ATTEMPTS:
            _log.warning("a message is given up: %s", reason, extra=_fields(message))
            await _mark(_GIVEN_UP, reason[:200], message.id, message.attempts)
            delivered.given_up += 1
        else:
            _log.info("a message will be tried again: %s", reason, extra=_fields(message))
            await _mark(_AGAIN, pause_seconds(message.attempts), reason[:200], message.id, message.attempts)
            delivered.failed += 1


def _log_under(request_id: str | None) -> None:
    """Each attempt is a task of its own; what it inherits is the id of the request whose job found the message."""
    if request_id:
        bind_contextvars(request_id=request_id)
    else:
        unbind_contextvars("request_id")


def _fields(message: Claim) -> dict[str, Any]:
    """What a line about a message says. Whom it goes to and what it says is nobody else's concern."""
    return {
        "message_id": str(message.id),
        "template": message.template,
        "channel": message.channel,
        "attempts": message.attempts,
    }


async def _mark(statement: str, *values: object) -> None:
    """Write down how an attempt ended, through a short outage too: what is not marked will be sent again."""
    for pause in MARK_PAUSES_SECONDS:
        try:
            await Message.raw(statement, *values)
        except UNAVAILABLE:
            await asyncio.sleep(pause)
        else:
            return
    await Message.raw(statement, *values)


def pause_seconds(attempts: int) -> int:
    """How long to wait after so many failed attempts."""
    return int(min(FIRST_PAUSE_SECONDS * 3 ** (attempts - 1), LONGEST_PAUSE_SECONDS))


async def claim(most: int) -> list[Claim]:
    """Up to `most` messages that are due, now ours: one statement, so no two workers ever get the same one."""
    rows: list[dict[str, Any]] = await Message.raw(_CLAIM, most, LEASE_SECONDS)
    return [Claim(**{**row, "params": msgspec.json.decode(row["params"] or "{}", type=dict[str, str])}) for row in rows]
