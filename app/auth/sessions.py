"""Where a person is signed in, and how they end that. A session is the family of refresh tokens of one sign-in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from actors.refusals import Refusal
from app.auth import refresh
from app.auth.refresh import Device
from app.auth.tokens import Caller, Tokens
from app.auth.turns import turn_of
from db.tables import RefreshToken
from db.transaction import transaction

SESSIONS_MAX = 200
USER_AGENT_MAX = 200

# Whatever has been spent or has expired is no way in; what is left of a session is its newest token, or a few of them.
_LIVE = """
SELECT family AS id, min(coalesce(signed_in_at, issued_at)) AS signed_in_at, max(issued_at) AS last_used_at,
    max(expires_at) AS expires_at, max(user_agent) AS user_agent
FROM refresh_token
WHERE "user" = {} AND revoked_at IS NULL AND spent_at IS NULL AND expires_at > now()
GROUP BY family ORDER BY signed_in_at DESC, id LIMIT {}
"""


class SessionNotFound(Refusal):
    status = 404
    code = "session_not_found"
    title = "There is no such session."
    detail = "It is not one of yours, or has ended already. List your sessions to see their ids."


class SessionView(Struct, frozen=True, kw_only=True):
    """
    A sign-in that still counts.

    `last_used_at` is when it last got a pair of tokens, `expires_at` when it ends if it gets no further one.
    """

    id: UUID
    signed_in_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str | None
    current: bool


def device_of(user_agent: str | None) -> Device:
    """What a client says of itself, without what can't be printed and not too long."""
    kept = "".join(letter for letter in user_agent or "" if letter.isprintable()).strip()
    return Device(user_agent=kept[:USER_AGENT_MAX] or None)


class Sessions:
    """Lists and ends the sessions of people who are signed in."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def live(self, caller: Caller) -> list[SessionView]:
        """Where the caller is signed in, the newest sign-in first, at most 200."""
        rows: list[dict[str, Any]] = await RefreshToken.raw(_LIVE, caller.user_id, SESSIONS_MAX)
        return [SessionView(**row, current=row["id"] == caller.session_id) for row in rows]

    async def end(self, caller: Caller, session_id: UUID) -> None:
        """
        End one, be it the present one.

        Raises:
            SessionNotFound: it is not the caller's, or has ended.
        """
        async with turn_of(caller.user_id), transaction():
            await refresh.lock_user(caller.user_id)
            ended = await refresh.revoke(caller.user_id, session_id)
        if not ended:
            raise SessionNotFound()
        self._tokens.revoke(ended)

    async def end_others(self, caller: Caller) -> None:
        """End every session but the present one."""
        async with turn_of(caller.user_id), transaction():
            await refresh.lock_user(caller.user_id)
            ended = await refresh.revoke_all(caller.user_id, but=caller.session_id)
        self._tokens.revoke(ended)
