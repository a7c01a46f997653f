"""`/users/password/update/` and `/users/password/verify/`: a new password for somebody who is signed in."""

from uuid import UUID

from litestar import patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from app.auth import refresh
from app.auth.tokens import SIGNED_OUT, Caller, TokenInvalid, Tokens, signed_in
from app.auth.turns import turn_of
from app.http.controller import OrderedController
from app.http.problems import problems
from app.limits.requests import LIMITED, RateLimiter
from app.limits.visitor import LimitedResponse, Visitor
from app.people.codes import AwaitedCode, Codes, InvalidCode
from app.people.fields import ANY_BODY, AWAITS_CODE, YOUR_PROFILE, Code, Password
from app.people.passwords.hashing import Passwords, WrongPassword
from app.people.passwords.policy import check_new_password
from app.people.profiles import Profiles, UserView
from db.tables import User
from db.transaction import transaction
from tasks.messages.outbox import Outbox


class UpdatePassword(Struct, frozen=True):
    """The current password and the one that is to replace it."""

    password: Password
    new_password: Password


class VerifyPassword(Struct, frozen=True):
    """A session and the code that was sent for it."""

    session_id: UUID
    code: Code


class PasswordChange(Struct, frozen=True, kw_only=True):
    """Starts changes of password and finishes them."""

    tokens: Tokens
    passwords: Passwords
    codes: Codes
    limiter: RateLimiter
    profiles: Profiles
    outbox: Outbox
    phone_region: str

    async def start(self, user_id: UUID, *, password: str, new_password: str, visitor: Visitor) -> AwaitedCode:
        """
        Keep the new password's hash until its code is given, send the code by email, and a notice to the phone.

        Raises:
            WrongPassword: `password` is not the current one.
        """
        await self.limiter.password_check(user_id, visitor)
        user = await User.select(User.email, User.phone_number, User.password_hash).where(User.id == user_id).first()
        if user is None:
            raise TokenInvalid()
        if not await self.passwords.match(user["password_hash"], password):
            raise WrongPassword()
        await self.passwords.checked(
            check_new_password,
            new_password,
            field="new_password",
            email=user["email"],
            phone_number=user["phone_number"],
            region=self.phone_region,
        )
        await self.limiter.code(user["email"], user["phone_number"], visitor)
        visitor.proven()
        new_hash = await self.passwords.hash(new_password)
        awaited, code = await self.codes.open("password", new_hash.encode(), owner=user_id)
        async with transaction():
            await self.outbox.owe(
                event=f"password_code:{awaited.session_id}",
                template="password_code",
                user_id=user_id,
                code=code,
            )
            await self.outbox.owe(
                event=f"password_attempt:{awaited.session_id}",
                template="password_attempt",
                channel="sms",
                user_id=user_id,
            )
        await self.outbox.hasten()
        return awaited

    async def finish(self, user_id: UUID, *, session_id: UUID, code: str, visitor: Visitor) -> UserView:
        """
        Make the new password the one that counts, and end every session: each refresh token is revoked.

        The access tokens end with their sessions: at once here, within seconds in other processes: see
        `app/auth/revocations.py`.

        Raises:
            InvalidCode: the code does not confirm this session, or the session is somebody else's.
            TokenInvalid: they were blocked a moment ago.
        """
        await self.limiter.verification(visitor)
        async with (
            self.codes.redeemed("password", session_id, code, owner=user_id) as new_hash,
            turn_of(user_id),
            transaction(),
        ):
            if await refresh.lock_user(user_id) is None:
                raise TokenInvalid()
            answer, ended = await set_password(
                user_id,
                new_hash.decode(),
                event=f"password_changed:{session_id}",
                outbox=self.outbox,
                profiles=self.profiles,
            )
        self.tokens.revoke(ended)
        await self.outbox.hasten()
        return answer


async def set_password(
    user_id: UUID, password_hash: str, *, event: str, outbox: Outbox, profiles: Profiles
) -> tuple[UserView, list[UUID]]:
    """
    Make this password the one that counts, end every session and owe a message that says so.

    In the current transaction, which holds the user's row: the person, and the sessions that have ended.
    """
    await User.raw('UPDATE "user" SET password_hash = {}, updated_at = now() WHERE id = {}', password_hash, user_id)
    ended = await refresh.revoke_all(user_id)
    await outbox.owe(event=event, template="password_changed", user_id=user_id)
    return await profiles.view(user_id), ended


class PasswordChangeController(OrderedController):
    """Changes of password."""

    path = "/users/password"
    tags = ("Users",)
    response_class = LimitedResponse

    @post(
        "/update",
        before_request=signed_in,
        summary="Start a password change",
        response_description=AWAITS_CODE,
        responses=problems(*ANY_BODY, *SIGNED_OUT, WrongPassword, *LIMITED),
    )
    async def update_password(
        self,
        data: JSONBody[UpdatePassword],
        caller: NamedDependency[Caller],
        visitor: NamedDependency[Visitor],
        password_change: NamedDependency[PasswordChange],
    ) -> AwaitedCode:
        """
        Sends a six-digit code to your own email address. Send it to `/users/password/verify/`. Your phone gets a notice
        if an SMS gateway is configured.
        """
        return await password_change.start(
            caller.user_id, password=data.password, new_password=data.new_password, visitor=visitor
        )

    @patch(
        "/verify",
        before_request=signed_in,
        summary="Finish a password change",
        response_description=YOUR_PROFILE,
        responses=problems(*ANY_BODY, *SIGNED_OUT, InvalidCode, *LIMITED),
    )
    async def verify_password(
        self,
        data: JSONBody[VerifyPassword],
        caller: NamedDependency[Caller],
        visitor: NamedDependency[Visitor],
        password_change: NamedDependency[PasswordChange],
    ) -> UserView:
        """The new password is valid at once, and all sessions have ended: sign in again."""
        return await password_change.finish(caller.user_id, session_id=data.session_id, code=data.code, visitor=visitor)
