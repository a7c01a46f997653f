"""
Out with what is owed: claim, send, mark. Each channel by itself: a silent mail server delays no SMS.

A message goes out at least once, almost always exactly once. A worker that dies between sending a message and marking
it sent can't know that it was sent, so after the lease another worker sends it again; no order of these steps avoids
both a loss and a repetition. The repetition has the same Message-ID.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
from msgspec import Struct
from prometheus_client import Counter
from structlog.contextvars import bind_contextvars, unbind_contextvars

from db.engine import UNAVAILABLE
from db.tables import Message
from tasks.messages.lane import Lane
from tasks.messages.mail import NotSent, Smtp, look_at_certificate, send_mail
from tasks.messages.sealing import NotOurs, Seal
from tasks.messages.sms import SmsGateway, send_sms
from tasks.messages.templates import CODE_LIFETIME_SECONDS, CODE_TEMPLATES, UnknownTemplate, write

# Nobody else sends a claimed message before this. Longer than one attempt may take, so that only a death lets it pass.
LEASE_SECONDS = 60
ATTEMPT_SECONDS = 30.0
MARK_PAUSES_SECONDS = (0.5, 1, 2, 4, 8)

# Pauses after a failed attempt: 5 s, 15 s, 45 s … up to 6 hours. The last of 12 attempts comes about a day later. A
# code has no such time, and is tried every minute while somebody may wait for it.
FIRST_PAUSE_SECONDS = 5
LONGEST_PAUSE_SECONDS = 6 * 3600
LONGEST_PAUSE_OF_A_CODE_SECONDS = 60
MAX_ATTEMPTS = 12

# A code counts from a moment before its message was written, when Redis began to keep it.
CODE_AT_HAND_SECONDS = CODE_LIFETIME_SECONDS - 5.0

Channel = Literal["email", "sms"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
# Why a message was given up: what was said of its recipient, a code's time, or that all attempts had failed.
Reason = Literal["recipient", "expired", "attempts"]

# Codes first: they are dead in minutes, and must not queue behind ten thousand notices on a fee day.
_CLAIM = """
WITH due AS (
    SELECT id FROM message WHERE sent_at IS NULL AND next_attempt_at <= now() AND channel = ANY({}::text[])
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
UPDATE message SET next_attempt_at = NULL, sealed = NULL, last_error = {}, given_up_at = now(), given_up_for = {}
WHERE id = {} AND attempts = {} AND sent_at IS NULL
"""

_SENT_MESSAGES = Counter("wallet_messages_sent", "Messages that were sent.", ["channel", "kind"])
for labels in product(CHANNELS, ("code", "letter")):
    _SENT_MESSAGES.labels(*labels)  # from zero, so that the first one is an increase

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

    def __init__(self, secret: str, smtp: Smtp, sms: SmsGateway, *, other_secrets: Iterable[str] = ()) -> None:
        self._seal = Seal(secret, others=other_secrets)
        self._smtp = smtp
        self._sms = sms
        self._lanes = {channel: Lane(partial(claim, channels=[channel])) for channel in CHANNELS}

    async def look_at_mail_server(self) -> None:
        """Warn of a mail server that no message will be handed to, before there is one."""
        await look_at_certificate(self._smtp)

    async def run(self, stop: asyncio.Event | None = None, *, channels: Collection[Channel] = CHANNELS) -> Delivered:
        """
        Send until nothing is due, `stop` is set, or for `RUN_SECONDS`; several workers at once share the work.

        A channel whose run is busy already is told to look again, and not waited for. Raises what the database raises
        when it can't be reached: what was claimed is due again after its lease.
        """
        delivered = Delivered()
        send = partial(self._attempt, delivered=delivered)
        # One that fails must not stop the others in the middle of a conversation with their server.
        ends = await asyncio.gather(
            *(self._lanes[channel].run(send, stop) for channel in channels), return_exceptions=True
        )
        for end in ends:
            if end is not None:
                raise end
        return delivered

    async def _attempt(self, message: Claim, delivered: Delivered) -> None:
        _log_under(message.request_id)
        try:
            if useless := _why_useless(message):
                await self._give_up(message, *useless, delivered)
                return
            async with asyncio.timeout(_seconds_for(message)):
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
            _SENT_MESSAGES.labels(message.channel, "code" if message.template in CODE_TEMPLATES else "letter").inc()
            _log.info("a message was sent", extra=_fields(message))

    async def _send(self, message: Claim) -> None:
        try:
            code = self._seal.open(message.sealed) if message.sealed else None
        except NotOurs as reason:
            raise NotSent(str(reason)) from None  # another worker may have that secret
        letter = write(message.template, message.params, code)
        recipient = message.recipient or ""
        if message.channel == "sms":
            await send_sms(self._sms, to=recipient, text=letter.short, reference=str(message.id))
        else:
            await send_mail(self._smtp, to=recipient, letter=letter, reference=str(message.id))

    async def _not_sent(self, message: Claim, reason: str, permanent: bool, delivered: Delivered) -> None:
        if permanent:
            await self._give_up(message, reason, "recipient", delivered)
        elif message.attempts >= MAX_ATTEMPTS:
            await self._give_up(message, reason, "attempts", delivered)
        else:
            _log.info("a message will be tried again: %s", reason, extra=_fields(message))
            pause = pause_seconds(message.attempts, of_a_code=message.sealed is not None)
            await _mark(_AGAIN, pause, reason[:200], message.id, message.attempts)
            delivered.failed += 1

    async def _give_up(self, message: Claim, reason: str, kind: Reason, delivered: Delivered) -> None:
        _log.warning("a message is given up: %s", reason, extra=_fields(message))
        await _mark(_GIVEN_UP, reason[:200], kind, message.id, message.attempts)
        delivered.given_up += 1


def _why_useless(message: Claim) -> tuple[str, Reason] | None:
    """Why a message is not worth an attempt, if it is not."""
    if message.attempts > MAX_ATTEMPTS:
        return "too many attempts", "attempts"
    if not message.recipient:
        return "there is nobody to send it to", "recipient"
    if message.sealed and _seconds_for(message) <= 0:
        return "the code has expired", "expired"
    return None


def _seconds_for(message: Claim) -> float:
    """How long an attempt may take: a code must not arrive when it is worth nothing any more."""
    if not message.sealed:
        return ATTEMPT_SECONDS
    return min(ATTEMPT_SECONDS, CODE_AT_HAND_SECONDS - message.age.total_seconds())


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


def pause_seconds(attempts: int, *, of_a_code: bool = False) -> int:
    """How long to wait after so many failed attempts."""
    longest = LONGEST_PAUSE_OF_A_CODE_SECONDS if of_a_code else LONGEST_PAUSE_SECONDS
    return int(min(FIRST_PAUSE_SECONDS * 3 ** (attempts - 1), longest))


async def claim(most: int, channels: Collection[Channel] = CHANNELS) -> list[Claim]:
    """Up to `most` messages that are due, now ours: one statement, so no two workers ever get the same one."""
    rows: list[dict[str, Any]] = await Message.raw(_CLAIM, list(channels), most, LEASE_SECONDS)
    return [Claim(**{**row, "params": msgspec.json.decode(row["params"] or "{}", type=dict[str, str])}) for row in rows]
