"""`/users/token/`: signing in, exchanging refresh tokens, signing out."""

import logging
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from actors.refusals import Overloaded
from app.auth import refresh
from app.auth.refresh import Device, TokenPair
from app.auth.sessions import device_of
from app.auth.tokens import REFRESH, TokenExpired, TokenInvalid, Tokens, WrongCredentials
from app.http.controller import OrderedController
from app.http.fields import PUBLIC, Unshown
from app.http.problems import problems
from app.http.shown_texts import NOT_SHOWN
from app.limits.requests import LIMITED, RateLimiter
from app.limits.visitor import LimitedResponse, Visitor
from app.people.contacts import claimed_phone_number
from app.people.fields import ANY_BODY, Password, Phone
from app.people.passwords.hashing import Passwords, is_outdated
from db.engine import UNAVAILABLE
from db.tables import User

log = logging.getLogger(__name__)

Refresh = Annotated[Unshown, Meta(max_length=2048, description="The refresh token of the last pair.")]


class CreateToken(Struct, frozen=True):
    """Who signs in."""

    phone_number: Phone
    password: Password


class TokenRefresh(Struct, frozen=True):
    """The refresh token to be exchanged. `access` is not needed and not looked at."""

    refresh: Refresh
    access: Annotated[Any, Meta(extra=NOT_SHOWN)] = None


class TokenRevoke(Struct, frozen=True):
    """The refresh token of the session that is to end."""

    refresh: Refresh


class SignIn(Struct, frozen=True, kw_only=True):
    """Begins sessions, prolongs them, and ends them by their refresh tokens."""

    tokens: Tokens
    passwords: Passwords
    limiter: RateLimiter
    phone_region: str

    async def begin(self, *, phone: str, password: str, visitor: Visitor, device: Device) -> TokenPair:
        """
        The first pair of tokens of a new session.

        Raises:
            WrongCredentials: unknown phone, wrong password and somebody who is blocked alike, after the same work.
        """
        phone = claimed_phone_number(phone, region=self.phone_region)
        await self.limiter.sign_in(phone, visitor)
        # Twice where the hash became another one in between: by a change of password, or by a stronger hash of it.
        for _ in range(2):
            found = (
                await User.select(User.id, User.password_hash, User.blocked_at)
                .where(User.phone_number == phone)
                .first()
            )
            matches = await self.passwords.match(found["password_hash"] if found else None, password)
            if not (matches and found) or found["blocked_at"]:
                raise WrongCredentials()
            pair = await refresh.begin(self.tokens, found["id"], password_hash=found["password_hash"], device=device)
            if pair:
                visitor.proven()
                await self._strengthen(found["id"], found["password_hash"], password)
                return pair
        raise WrongCredentials()

    async def refresh(self, token: str, *, visitor: Visitor) -> TokenPair:
        """The next pair; refused as `app.auth.refresh.rotate` says."""
        await self.limiter.refresh(visitor)
        await self.limiter.refresh_of(self.tokens.read(token, REFRESH).user_id, visitor)
        return await refresh.rotate(self.tokens, token)

    async def end(self, token: str, *, visitor: Visitor) -> None:
        """End the session that this refresh token is of, if it is of one: whoever asks does not learn which."""
        await self.limiter.refresh(visitor)
        await refresh.sign_out(self.tokens, token)

    async def _strengthen(self, user_id: UUID, password_hash: str, password: str) -> None:
        """Hash the password anew where that is done with more work by now; nobody's sign-in fails for it."""
        if not is_outdated(password_hash):
            return
        try:
            stronger = await self.passwords.hash(password)
            await User.raw(
                'UPDATE "user" SET password_hash = {} WHERE id = {} AND password_hash = {}',
                stronger,
                user_id,
                password_hash,
            )
        except (Overloaded, *UNAVAILABLE) as error:
            log.info("a password could not be rehashed: %s", type(error).__name__)


class SignInController(OrderedController):
    """How people prove who they are, and stop doing so."""

    path = "/users/token"
    tags = ("Users",)
    security = PUBLIC

    @post(
        "/create",
        summary="Sign in",
        response_description="Tokens. The access token is valid for `expires_in` seconds.",
        responses=problems(*ANY_BODY, WrongCredentials, *LIMITED),
        response_class=LimitedResponse,
    )
    async def create_token(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[CreateToken],
        visitor: NamedDependency[Visitor],
        sign_in: NamedDependency[SignIn],
    ) -> TokenPair:
        """
        Returns an access token for the `Authorization` header, and a refresh token to exchange for the next pair.

        An unknown phone number and a wrong password get the same answer. Each sign-in starts a session: see
        `/users/sessions/`.
        """
        device = device_of(request.headers.get("user-agent"))
        return await sign_in.begin(phone=data.phone_number, password=data.password, visitor=visitor, device=device)

    @post(
        "/refresh",
        summary="Exchange a refresh token",
        response_description="The next pair. The access token is valid for `expires_in` seconds.",
        responses=problems(*ANY_BODY, TokenExpired, TokenInvalid, *LIMITED),
        response_class=LimitedResponse,
    )
    async def refresh_token(
        self, data: JSONBody[TokenRefresh], visitor: NamedDependency[Visitor], sign_in: NamedDependency[SignIn]
    ) -> TokenPair:
        """
        Returns a new pair and spends the old refresh token. For ten seconds the old one can be exchanged again, in case
        the answer was lost; of several pairs, only the one that is refreshed first stays valid. If a spent token is
        used after those ten seconds, its whole session is revoked.
        """
        return await sign_in.refresh(data.refresh, visitor=visitor)

    @post(
        "/revoke",
        status_code=204,
        summary="Sign out",
        response_description="Signed out.",
        responses=problems(*ANY_BODY, *LIMITED),
    )
    async def revoke_token(
        self, data: JSONBody[TokenRevoke], visitor: NamedDependency[Visitor], sign_in: NamedDependency[SignIn]
    ) -> None:
        """
        Ends the session that the refresh token belongs to, with all its tokens. Needs no access token.

        The answer is the same for a token that is unknown, expired or spent (RFC 7009).
        """
        await sign_in.end(data.refresh, visitor=visitor)
