"""`X-Request-ID` on every response: the client's own where it sent a usable one."""

import re

from litestar.types import Message, Scope
from uuid_utils import uuid7

_USABLE = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)


def request_id(scope: Scope) -> bytes:
    """The id of this request; made up at the first question, and the same from then on."""
    state = scope["state"]
    if "request_id" not in state:
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        state["request_id"] = sent if _USABLE.fullmatch(sent) else str(uuid7()).encode()
    known: bytes = state["request_id"]
    return known


async def add_request_id(message: Message, scope: Scope) -> None:
    """
    Litestar's `before_send` hook: it also sees the answers to paths that no route has.

    It notes the status on its way, which spares the request's line in the log a look at every message.
    """
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"x-request-id", request_id(scope))]
        scope["state"]["status"] = message["status"]


def answered_with(scope: Scope) -> int | None:
    """The status of the answer, once one has begun."""
    status: int | None = scope["state"].get("status")
    return status
