"""
Refresh tokens in PostgreSQL: issued, rotated, revoked.

Every token that came of one sign-in is of one family. Each is good for one exchange; a spent one that turns up again
means that two parties hold the family, so all of it is revoked (RFC 9700, 4.14.2).

The grace. A client whose answer was lost on the way asks again with the token it just spent, and so do two browser
tabs. For ten seconds a spent token therefore gets another pair of its family. The price: a thief who is as quick as
that gets a pair unnoticed, and keeps it alive until the password changes. A token that was never answered can't be
told from one that was, so the alternative is to sign out people with bad connections.

Whoever changes a user's tokens locks the user's row first. So a rotation can't slip a new token past a revocation that
is under way, nor a sign-in past a change of password.
"""

import hmac
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal
from uuid import UUID, uuid4

from msgspec import Struct

from app.auth import REFRESH, TokenExpired, TokenInvalid, Tokens
from db.tables import RefreshToken, User
from db.transaction import transaction


class TokenPair(Struct, frozen=True, kw_only=True):
    """An access token, good for `expires_in` seconds, and the refresh token that gets the next pair, once."""

    access: str
    refresh: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme


async def begin(tokens: Tokens, user_id: UUID, *, password_hash: str) -> TokenPair | None:
    """The first pair of a new family; None where the password is no longer the one that was checked."""
    async with transaction():
        if await _lock_user(user_id) != password_hash:
            return None
        return await _issue(tokens, user_id, family=uuid4())


async def rotate(tokens: Tokens, refresh: str) -> TokenPair:
    """
    Spend a refresh token for a new pair of its family.

    Raises:
        TokenExpired: its time is over.
        TokenInvalid: it is none of ours, or was revoked, or was spent before: then its family is revoked now.
    """
    claims = tokens.read(refresh, REFRESH)
    async with transaction():
        # The refusal is returned, not raised: raising would undo the revocation.
        answer = await _rotate_locked(tokens, claims.user_id, claims.token_id, refresh)
    if isinstance(answer, TokenPair):
        return answer
    raise answer


async def revoke_all(user_id: UUID) -> None:
    """Revoke every refresh token of the user, inside the current transaction, which holds the user's row."""
    live = (RefreshToken.user == user_id) & RefreshToken.revoked_at.is_null()
    await RefreshToken.update({RefreshToken.revoked_at: datetime.now(UTC)}).where(live)


async def _rotate_locked(
    tokens: Tokens, user_id: UUID, token_id: UUID, refresh: str
) -> TokenPair | TokenInvalid | TokenExpired:
    if await _lock_user(user_id) is None:
        return TokenInvalid()
    row = (
        await RefreshToken.select()
        .where((RefreshToken.id == token_id) & (RefreshToken.user == user_id))
        .lock_rows("UPDATE")
        .first()
    )
    if row is None or row["revoked_at"] or not hmac.compare_digest(row["token_hash"], _digest(refresh)):
        return TokenInvalid()
    now = datetime.now(UTC)
    if row["expires_at"] <= now:
        return TokenExpired()
    if row["spent_at"] is None:
        await RefreshToken.update({RefreshToken.spent_at: now}).where(RefreshToken.id == token_id)
    elif now - row["spent_at"] > timedelta(seconds=tokens.lifetimes.reuse_grace_seconds):
        await RefreshToken.update({RefreshToken.revoked_at: now}).where(RefreshToken.family == row["family"])
        return TokenInvalid()
    return await _issue(tokens, user_id, family=row["family"])


async def _lock_user(user_id: UUID) -> str | None:
    """
    Hold the user's row until the transaction ends; its password hash, or None where there is no such user.

    Not as strong as FOR UPDATE, which would hold up every row that refers to the user.
    """
    rows = await User.raw('SELECT password_hash FROM "user" WHERE id = {} FOR NO KEY UPDATE', user_id)
    return rows[0]["password_hash"] if rows else None


async def _issue(tokens: Tokens, user_id: UUID, *, family: UUID) -> TokenPair:
    token_id = uuid4()
    refresh = tokens.refresh(user_id, token_id)
    now = datetime.now(UTC)
    await RefreshToken.insert(
        RefreshToken(
            id=token_id,
            family=family,
            user=user_id,
            token_hash=_digest(refresh),
            issued_at=now,
            expires_at=now + timedelta(seconds=tokens.lifetimes.refresh_seconds),
        )
    )
    return TokenPair(access=tokens.access(user_id), refresh=refresh, expires_in=tokens.lifetimes.access_seconds)


def _digest(refresh: str) -> str:
    return sha256(refresh.encode()).hexdigest()
