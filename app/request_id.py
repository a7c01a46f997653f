"""`X-Request-ID` on every response: the client's own where it sent a usable one."""

import re

from litestar.types import Scope
from uuid_utils import uuid7

_USABLE = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)


def new_request_id(scope: Scope) -> bytes:
    """Choose the id of a request that has just come in."""
    sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    chosen = sent if _USABLE.fullmatch(sent) else str(uuid7()).encode()
    scope["state"]["request_id"] = chosen
    return chosen


def request_id(scope: Scope) -> str:
    """The id that was chosen for this request."""
    known: bytes = scope["state"]["request_id"]
    return known.decode()
