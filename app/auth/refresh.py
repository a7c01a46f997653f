"""
Refresh tokens in PostgreSQL: issued, rotated, revoked.

Every token that came of one sign-in is of one family, which is a person's session. Each is good for one exchange; a
spent one that turns up again means that two parties hold the family, so all of it is revoked (RFC 9700, 4.14.2).

The grace. A client whose answer was lost on the way asks again with the token it just spent, and so do two browser
tabs. For ten seconds a spent token therefore gets another pair of its family. But only one of those pairs lives on:
whichever refresh token is exchanged first spends its siblings with itself. So a thief who was as quick as that has a
pair, but not for long: once either party has refreshed, the other's next exchange, unless it comes within ten seconds,
is that of a spent token, and ends the session. Tabs must share what they were given, as they do in a browser's storage.

Whoever changes a user's tokens locks the user's row first. So a rotation can't slip a new token past a revocation that
is under way, nor a sign-in past a change of password. Whoever revokes tells `Tokens` after the commit, which
refuses the access tokens of the session at once; the other processes learn of it by `app/auth/revocations.py`.

All times in the rows are of PostgreSQL's clock: a grace of ten seconds can't be told by the clocks of two hosts.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID, uuid4

from msgspec import Struct

from app.auth.tokens import REFRESH, Claims, TokenExpired, TokenInvalid, Tokens
from app.auth.turns import turn_of
from db.tables import RefreshToken, User
from db.transaction import run, transaction

# Nobody waits for the row: whoever changes it has locked the user's before.
_ROW = """
SELECT *, clock_timestamp() AS "now" FROM "refresh_token" WHERE "id" = $1 AND "user" = $2 FOR UPDATE
"""
_ISSUE = """
INSERT INTO "refresh_token"
    ("id", "family", "user", "token_hash", "signed_in_at", "user_agent", "issued_at", "expires_at")
SELECT $1, $2, $3, $4, coalesce($5, "now"), $6, "now", "now" + make_interval(secs => $7)
FROM (SELECT clock_timestamp() AS "now") AS "clock"
"""


class TokenPair(Struct, frozen=True, kw_only=True):
    """An access token, good for `expires_in` seconds, and the refresh token that gets the next pair, once."""

    access: str
    refresh: str
    token_type: Literal["Bearer"]
    expires_in: int


class Device(Struct, frozen=True, kw_only=True):
    """From what somebody signed in, as far as it tells; it stays with the session."""

    user_agent: str | None = None


async def begin(tokens: Tokens, user_id: UUID, *, password_hash: str, device: Device) -> TokenPair | None:
    """The first pair of a new session; None where the password that was checked counts no more, or they are blocked."""
    async with turn_of(user_id), transaction():
        if await lock_user(user_id) != password_hash:
            return None
        return await _issue(tokens, user_id, family=uuid4(), signed_in_at=None, device=device)


async def rotate(tokens: Tokens, refresh: str) -> TokenPair:
    """
    Spend a refresh token for a new pair of its family.

    Raises:
        TokenExpired: its time is over.
        TokenInvalid: it is none of ours, or was revoked, or was spent more than the grace ago: then its session is
            revoked now.
    """
    claims = tokens.read(refresh, REFRESH)
    async with turn_of(claims.user_id), transaction():
        # The refusal is returned, not raised: raising would undo the revocation.
        answer, revoked = await _rotate_locked(tokens, claims, refresh)
    tokens.revoke(revoked)
    if isinstance(answer, TokenPair):
        return answer
    raise answer


async def sign_out(tokens: Tokens, refresh: str) -> None:
    """Revoke the session that a refresh token is of, be it spent or expired; nothing happens where there is none."""
    try:
        claims = tokens.read(refresh, REFRESH, expired_too=True)
    except TokenInvalid:
        return
    async with turn_of(claims.user_id), transaction():
        await lock_user(claims.user_id)
        row = await _row(claims, refresh)
        revoked = await revoke(claims.user_id, row["family"]) if row else []
    tokens.revoke(revoked)


async def revoke(user_id: UUID, session_id: UUID) -> list[UUID]:
    """
    Revoke this session of the user's inside the current transaction, which holds the user's row.

    The sessions that it has ended: this one, or none. `Tokens.revoke` is to be told after the commit.
    """
    return await _revoked('"user" = {} AND family = {}', user_id, session_id)


async def revoke_all(user_id: UUID, *, but: UUID | None = None) -> list[UUID]:
    """Revoke every session of the user, `but` perhaps the present one, as `revoke` does."""
    return await _revoked('"user" = {} AND family IS DISTINCT FROM {}', user_id, but)


async def lock_user(user_id: UUID) -> str | None:
    """
    Hold the user's row until the transaction ends; its password hash, or None where there is no such user.

    Somebody who is blocked or erased is as good as not there. Not as strong as FOR UPDATE, which would hold up every
    row that refers to the user.
    """
    rows = await User.raw(
        'SELECT password_hash FROM "user" WHERE id = {} AND blocked_at IS NULL AND erased_at IS NULL FOR NO KEY UPDATE',
        user_id,
    )
    return rows[0]["password_hash"] if rows else None


async def _rotate_locked(
    tokens: Tokens, claims: Claims, refresh: str
) -> tuple[TokenPair | TokenInvalid | TokenExpired, list[UUID]]:
    """The answer, and the sessions that were revoked."""
    if await lock_user(claims.user_id) is None:
        return TokenInvalid(), []
    row = await _row(claims, refresh)
    if row is None or row["revoked_at"]:
        return TokenInvalid(), []
    now = row["now"]
    if row["expires_at"] <= now:
        return TokenExpired(), []
    if row["spent_at"] is None:
        # With its siblings, of which there are some where an answer was lost: one pair of a session lives on.
        await RefreshToken.update({RefreshToken.spent_at: now}).where(
            (RefreshToken.family == row["family"]) & RefreshToken.spent_at.is_null()
        )
    elif abs(now - row["spent_at"]) > timedelta(seconds=tokens.lifetimes.reuse_grace_seconds):  # or a clock has jumped
        return TokenInvalid(), await revoke(claims.user_id, row["family"])
    device = Device(user_agent=row["user_agent"])
    signed_in_at = row["signed_in_at"] or row["issued_at"]
    pair = await _issue(tokens, claims.user_id, family=row["family"], signed_in_at=signed_in_at, device=device)
    return pair, []


async def _row(claims: Claims, refresh: str) -> Mapping[str, Any] | None:
    """The row of a refresh token, locked, with the time as `now`."""
    rows = await run(_ROW, claims.token_id, claims.user_id)
    return rows[0] if rows and hmac.compare_digest(rows[0]["token_hash"], _digest(refresh)) else None


async def _revoked(condition: str, *arguments: Any) -> list[UUID]:
    # The database's own clock, by which the processes ask for what is new.
    rows = await RefreshToken.raw(
        "WITH ended AS (UPDATE refresh_token SET revoked_at = clock_timestamp()"  # noqa: S608 - a constant of ours
        f" WHERE {condition} AND revoked_at IS NULL RETURNING family) SELECT DISTINCT family FROM ended",
        *arguments,
    )
    return [row["family"] for row in rows]


async def _issue(
    tokens: Tokens, user_id: UUID, *, family: UUID, signed_in_at: datetime | None, device: Device
) -> TokenPair:
    """Another pair of the family; without `signed_in_at` the first, of a session that begins now."""
    token_id = uuid4()
    refresh = tokens.refresh(user_id, token_id)
    lifetimes = tokens.lifetimes
    digest, seconds = _digest(refresh), float(lifetimes.refresh_seconds)
    await run(_ISSUE, token_id, family, user_id, digest, signed_in_at, device.user_agent, seconds)
    access = tokens.access(user_id, family)
    return TokenPair(access=access, refresh=refresh, token_type="Bearer", expires_in=lifetimes.access_seconds)  # noqa: S106 - a scheme


def _digest(refresh: str) -> str:
    return sha256(refresh.encode()).hexdigest()
