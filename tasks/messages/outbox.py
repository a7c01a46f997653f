"""Messages owed to people: written with the event that they tell of, so that both happen or neither does."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Literal
from uuid import UUID, uuid4

import msgspec
from saq import Queue

from db.tables import Message
from tasks.job_log import bound_request_id, meta_of_request
from tasks.messages.sealing import Seal
from tasks.messages.templates import Template

# Redis may be away, and whoever asks for haste waits for nothing: the worker's own sweep finds the row anyway.
HASTEN_SECONDS = 1.0
# The jobs that send what is due, one for each channel.
DELIVERIES = {"email": "deliver", "sms": "deliver_sms"}

_INSERT = """
INSERT INTO message (id, event, "user", channel, recipient, template, params, sealed, request_id)
VALUES ({}, {}, {}, {}, {}, {}, {}::jsonb, {}, {}) ON CONFLICT (event) DO NOTHING
"""

_log = logging.getLogger(__name__)


class Outbox:
    """Where the application leaves what it owes to people: rows of `message`, which a worker sends."""

    def __init__(self, queue: Queue, secret: str, *, sms: bool) -> None:
        self._queue = queue
        self._seal = Seal(secret)
        self.sms = sms
        """Whether there is a gateway that sends SMS."""

    async def owe(
        self,
        *,
        event: str,
        template: Template,
        channel: Literal["email", "sms"] = "email",
        user_id: UUID | None = None,
        recipient: str | None = None,
        params: Mapping[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        """
        Write the message in the caller's transaction; call `hasten` after its commit.

        `event` names what happened, at most 120 characters: a second message about the same event is not written.
        Without `recipient` it goes to the user's own address or number. An SMS is not written where there is no
        gateway. The code is stored sealed; nothing secret belongs in `params`.
        """
        if channel == "sms" and not self.sms:
            return
        await Message.raw(
            _INSERT,
            uuid4(),
            event,
            user_id,
            channel,
            recipient,
            template,
            msgspec.json.encode(params or {}).decode(),
            self._seal.close(code) if code else None,
            bound_request_id(),
        )

    async def erase(self, *events: str) -> None:
        """
        Take back what was written about these events in the caller's transaction: nobody will be sent it.

        Writing and erasing a message costs what sending one costs, so that nobody learns by a clock who is sent one.
        """
        await Message.raw("DELETE FROM message WHERE event = ANY({}::text[])", list(events))

    async def hasten(self) -> None:
        """Ask the worker to deliver now rather than at its next sweep. Never raises: the rows are found either way."""
        await hasten_delivery(self._queue, sms=self.sms)


async def hasten_delivery(queue: Queue, *, sms: bool) -> None:
    """
    Queue a delivery of whatever is due, or let it be where Redis is away.

    The jobs name no message and have no key: a key would swallow the request while an earlier delivery, which may have
    looked for work already, is still busy.
    """
    try:
        async with asyncio.timeout(HASTEN_SECONDS):
            for channel, job in DELIVERIES.items():
                if sms or channel != "sms":
                    await queue.enqueue(job, timeout=120, retries=2, ttl=-1, meta=meta_of_request())
    except Exception as error:  # noqa: BLE001 Redis away, slow, full: none of it is the caller's concern
        _log.info("No worker could be told of a new message (%s); its sweep will find it.", type(error).__name__)
