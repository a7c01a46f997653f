"""Access and refresh tokens as signed JWTs (RFC 7519), and the hook that lets in who carries one."""

import hmac
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from time import monotonic, time
from typing import Any, Literal
from uuid import UUID, uuid4

import jwt
from litestar import Request
from msgspec import Struct

from actors.refusals import Refusal
from db.clocks import CLOCKS_DIFFER_SECONDS

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "wallet"
# RFC 9068 names the header of access tokens; the other is ours. The type keeps one from passing as the other.
ACCESS: Literal["at+jwt"] = "at+jwt"
REFRESH: Literal["rt+jwt"] = "rt+jwt"
TOKEN_LENGTH_MAX = 2048
REMEMBERED_MAX = 20_000
_AS_SIGNED = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_CLAIMS = ["iss", "aud", "sub", "iat", "exp", "jti"]


class Lifetimes(Struct, frozen=True, kw_only=True):
    """Lifetimes of tokens."""

    access_seconds: int = 15 * 60
    refresh_seconds: int = 14 * 24 * 3600
    reuse_grace_seconds: int = 10


class NotAuthenticated(Refusal):
    status = 401
    code = "not_authenticated"
    title = "You are not signed in."
    detail = "Send an access token: `Authorization: Bearer <access>`."
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class TokenInvalid(Refusal):
    status = 401
    code = "token_invalid"
    title = "The token is not valid."
    detail = "It is not one of ours, was revoked, or is of the wrong kind. Sign in again."
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class TokenExpired(Refusal):
    status = 401
    code = "token_expired"
    title = "The token has expired."
    detail = "Exchange the refresh token for a new pair, or sign in again."
    headers: Mapping[str, str] = {
        "WWW-Authenticate": 'Bearer error="invalid_token", error_description="The token has expired"'
    }


class WrongCredentials(Refusal):
    status = 401
    code = "wrong_credentials"
    title = "The phone number or the password is wrong."
    detail = "Check both. It is not said which of the two was wrong."


# What any route that wants a token may answer to one that is missing or no good.
SIGNED_OUT = (NotAuthenticated, TokenExpired, TokenInvalid)


class Caller(Struct, frozen=True):
    """Who is asking, and in which session: `request.user` behind `signed_in`."""

    user_id: UUID
    session_id: UUID


class Claims(Struct, frozen=True, kw_only=True):
    """
    What a token of ours says: whose it is, its own id, and until when it is good (Unix seconds).

    Access tokens name their session, which is the family of the refresh tokens of one sign-in.
    """

    user_id: UUID
    token_id: UUID
    expires_at: int
    session_id: UUID | None = None


class Tokens:
    """
    Signs and reads tokens, and remembers the access tokens it has read until they expire or their session is revoked.

    Which sessions have been revoked, `app/auth/revocations.py` tells it.
    """

    def __init__(self, secret: str, lifetimes: Lifetimes, *, others: Iterable[str] = ()) -> None:
        """`others` are the secrets besides `secret` whose tokens are read too."""
        self.lifetimes = lifetimes
        self._key_id, _ = _signing_key(secret)
        self._keys = dict(_signing_key(each) for each in (secret, *others))
        # By the whole header value, oldest first. A verified token is the only thing that gets in here.
        self._remembered: dict[bytes, tuple[Caller, int]] = {}
        # Where to find those of a session, so that revoking one does not look through all.
        self._remembered_of: dict[UUID, set[bytes]] = {}
        # By session, until when it matters: after that, its access tokens have expired. By a clock that nobody sets and
        # in Unix seconds: one that is ahead for a moment would forget it, and one that steps back revives tokens.
        self._revoked: dict[UUID, tuple[float, float]] = {}

    def access(self, user_id: UUID, session_id: UUID) -> str:
        """A new access token of a session."""
        return self._sign(ACCESS, user_id, uuid4(), self.lifetimes.access_seconds, sid=str(session_id))

    def refresh(self, user_id: UUID, token_id: UUID) -> str:
        """The refresh token of the row `token_id`."""
        return self._sign(REFRESH, user_id, token_id, self.lifetimes.refresh_seconds)

    def caller(self, authorization: bytes) -> Caller:
        """
        Who sends this `Authorization` header.

        Raises:
            NotAuthenticated: it has no bearer token.
            TokenExpired, TokenInvalid: as `read`.
        """
        remembered = self._remembered.get(authorization)
        if remembered is not None:
            if remembered[1] > time():
                return remembered[0]
            self._forget(authorization)
            raise TokenExpired()
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise NotAuthenticated()
        claims = self.read(token.strip(), ACCESS)
        assert claims.session_id  # every access token has one, or is not valid
        caller = Caller(claims.user_id, claims.session_id)
        if not _AS_SIGNED.fullmatch(token):  # it is padded, which can be done in as many ways as there is memory
            return caller
        if len(self._remembered) >= REMEMBERED_MAX:
            self._forget(next(iter(self._remembered)))
        self._remembered[authorization] = (caller, claims.expires_at)
        self._remembered_of.setdefault(caller.session_id, set()).add(authorization)
        return caller

    def revoke(self, sessions: Iterable[UUID]) -> None:
        """From now on refuse the access tokens of these sessions, remembered or not."""
        elapsed, now, seconds = monotonic(), time(), self.revocations_matter_seconds
        while self._revoked:  # oldest first, so what has had its time is in front
            first, (until_elapsed, until) = next(iter(self._revoked.items()))
            if until_elapsed > elapsed or until > now:
                break
            del self._revoked[first]
        for session_id in sessions:
            self._revoked.setdefault(session_id, (elapsed + seconds, now + seconds))
            for authorization in self._remembered_of.pop(session_id, ()):
                del self._remembered[authorization]

    @property
    def revocations_matter_seconds(self) -> float:
        """For how long a revoked session still has access tokens that have not expired, whoever's clock signed them."""
        return self.lifetimes.access_seconds + CLOCKS_DIFFER_SECONDS

    def read(self, token: bytes | str, kind: Literal["at+jwt", "rt+jwt"], *, expired_too: bool = False) -> Claims:
        """
        What a token of the given kind says.

        A host whose clock is ahead may have signed it: it may be of `CLOCKS_DIFFER_SECONDS` from now, not later. Its
        end is taken as it is written, so it is good for no longer than it says.

        Raises:
            TokenExpired: it is ours, and its time is over; not where that is `expired_too`.
            TokenInvalid: it is anything else, or an access token of a session that was revoked.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise TokenInvalid()
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != kind:
                raise TokenInvalid()
            claims = jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=CLOCKS_DIFFER_SECONDS,
                options={"require": _CLAIMS, "verify_exp": not expired_too},
            )
            if not expired_too and claims["exp"] <= time():
                raise TokenExpired()
            session_id = UUID(claims["sid"]) if kind == ACCESS else None
            if session_id in self._revoked:
                raise TokenInvalid()
            return Claims(
                user_id=UUID(claims["sub"]),
                token_id=UUID(claims["jti"]),
                expires_at=claims["exp"],
                session_id=session_id,
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired() from None
        # A token is whatever someone sent: not base64, not JSON, nested a thousand deep, a key we never had.
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise TokenInvalid() from None

    def _forget(self, authorization: bytes) -> None:
        caller, _ = self._remembered.pop(authorization)
        others = self._remembered_of[caller.session_id]
        others.discard(authorization)
        if not others:
            del self._remembered_of[caller.session_id]

    def _sign(self, kind: str, user_id: UUID, token_id: UUID, seconds: int, **more: str) -> str:
        now = int(time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(user_id), "jti": str(token_id), **more}
        return jwt.encode(
            {**claims, "iat": now, "exp": now + seconds},
            self._keys[self._key_id],
            algorithm=ALGORITHM,
            headers={"typ": kind, "kid": self._key_id},
        )


async def signed_in(request: Request[Any, Any, Any]) -> None:
    """
    Let in who carries a good access token, and put the `Caller` where `request.user` finds it.

    It is a `before_request` hook and not a guard: for each call of a guard Litestar copies the route's handler, which
    costs more than everything that happens here.

    Raises:
        NotAuthenticated, TokenExpired, TokenInvalid: each a 401 that says how to sign in (RFC 6750).
    """
    # On the path of every payment: the raw headers are a short list, and a parsed view of them costs more to build.
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            request.scope["user"] = request.app.state.tokens.caller(value)
            return
    raise NotAuthenticated()


async def caller(request: Request[Caller, Any, Any]) -> Caller:
    """A dependency of handlers behind `signed_in`: who asks."""
    return request.user


def _signing_key(secret: str) -> tuple[str, bytes]:
    """A key for tokens only, and the id by which a token names it; neither tells of the secret or the other."""
    key = hmac.digest(secret.encode(), b"wallet token signatures", "sha256")
    return sha256(b"key id:" + key).hexdigest()[:8], key
