"""`/users/password/reset/`: a new password by a code to the person's own address. Nobody learns who is known."""

from typing import Annotated
from uuid import UUID, uuid4

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from actors.refusals import FieldError
from app.auth import refresh
from app.auth.tokens import Tokens
from app.auth.turns import turn_of
from app.http.controller import OrderedController
from app.http.fields import PUBLIC, Unshown
from app.http.problems import ValidationFailed, problems
from app.limits.requests import LIMITED, RateLimiter
from app.limits.visitor import LimitedResponse, Visitor
from app.people.codes import AwaitedCode, Codes, InvalidCode
from app.people.contacts import claimed_phone_number, email_address
from app.people.fields import ANY_BODY, AWAITS_CODE, YOUR_PROFILE, Code, Password, Phone
from app.people.passwords.change import set_password
from app.people.passwords.hashing import Passwords
from app.people.passwords.policy import check_common, check_new_password
from app.people.profiles import Profiles, UserView
from db.tables import User
from db.transaction import transaction
from tasks.messages.outbox import Outbox

# Whose code nobody gets: written and erased in one commit, so that it costs what a real one costs.
_NOBODY = {"email": "nobody@example.com", "phone_number": "+70000000000"}


class ResetPassword(Struct, frozen=True):
    """Who has forgotten their password: by phone number or by email address, one of the two."""

    phone_number: Phone | None = None
    email: Annotated[Unshown, Meta(max_length=254, description="Instead of a phone number.")] | None = None


class VerifyReset(Struct, frozen=True):
    """A session, the code that was sent for it, and the password that is to count."""

    session_id: UUID
    code: Code
    new_password: Password


class PasswordReset(Struct, frozen=True, kw_only=True):
    """Starts resets of forgotten passwords and finishes them."""

    tokens: Tokens
    passwords: Passwords
    codes: Codes
    limiter: RateLimiter
    profiles: Profiles
    outbox: Outbox
    phone_region: str
    development: bool

    async def start(self, *, email: str | None = None, phone: str | None = None, visitor: Visitor) -> AwaitedCode:
        """
        Send a code to the address of whoever has this email address or this phone number; one of the two is given.

        Their phone gets a notice. For somebody unknown or blocked, answer and work are the same, but nothing goes out,
        and no code redeems it.
        """
        email = email_address(email, development=self.development) if email is not None else None
        phone = claimed_phone_number(phone, region=self.phone_region) if phone is not None else None
        await self.limiter.code(email, phone, visitor)
        whose = User.email == email if email is not None else User.phone_number == phone
        person = await User.select(User.id, User.email, User.phone_number, User.blocked_at).where(whose).first()
        known = person if person and not person["blocked_at"] else None
        pending = (known["id"] if known else uuid4()).bytes
        awaited, code = await self.codes.open("reset", pending)
        code_event, notice_event = (f"reset_{what}:{awaited.session_id}" for what in ("code", "attempt"))
        reached = known or _NOBODY
        async with transaction():
            # To an address and not to a user: a reference to a row would have to be looked up, for known people only.
            await self.outbox.owe(event=code_event, template="reset_code", recipient=reached["email"], code=code)
            await self.outbox.owe(
                event=notice_event, template="reset_attempt", channel="sms", recipient=reached["phone_number"]
            )
            await self.outbox.erase(*(() if known else (code_event, notice_event)))
        await self.outbox.hasten()
        return awaited

    async def finish(self, *, session_id: UUID, code: str, new_password: str, visitor: Visitor) -> UserView:
        """
        Set the new password, and end every session.

        Raises:
            PasswordRefused: the new password is too easy to guess; the code stays good.
            InvalidCode: the code does not confirm this session.
        """
        await self.limiter.verification(visitor)
        await self.passwords.checked(check_common, new_password, field="new_password")
        async with self.codes.redeemed("reset", session_id, code) as pending:
            user_id = UUID(bytes=pending)
            # What is their own is told only to who holds the code: to others it would tell whose address it is.
            contacts = await User.select(User.email, User.phone_number).where(User.id == user_id).first()
            if contacts is None:
                raise InvalidCode()
            await self.passwords.checked(
                check_new_password, new_password, field="new_password", region=self.phone_region, **contacts
            )
            password_hash = await self.passwords.hash(new_password)
            async with turn_of(user_id), transaction():
                if await refresh.lock_user(user_id) is None:  # blocked a moment ago
                    raise InvalidCode()
                answer, ended = await set_password(
                    user_id,
                    password_hash,
                    event=f"password_changed:{session_id}",
                    outbox=self.outbox,
                    profiles=self.profiles,
                )
        self.tokens.revoke(ended)
        await self.outbox.hasten()
        return answer


class PasswordResetController(OrderedController):
    """Resets of passwords."""

    path = "/users/password/reset"
    tags = ("Users",)
    security = PUBLIC
    response_class = LimitedResponse

    @post(
        "/",
        summary="Start a password reset",
        response_description=AWAITS_CODE,
        responses=problems(*ANY_BODY, *LIMITED),
    )
    async def reset_password(
        self,
        data: JSONBody[ResetPassword],
        visitor: NamedDependency[Visitor],
        password_reset: NamedDependency[PasswordReset],
    ) -> AwaitedCode:
        """
        Sends a six-digit code to the user's own email address. Send it to `/users/password/reset/verify/`. Their phone
        gets a notice if an SMS gateway is configured.

        The answer is the same if nobody has this phone number or email address.
        """
        if (data.phone_number is None) == (data.email is None):
            message = "Give the phone number or the email address: one of the two."
            raise ValidationFailed(FieldError(field="phone_number", message=message))
        return await password_reset.start(email=data.email, phone=data.phone_number, visitor=visitor)

    @post(
        "/verify",
        summary="Finish a password reset",
        response_description=YOUR_PROFILE,
        responses=problems(*ANY_BODY, InvalidCode, *LIMITED),
    )
    async def verify_reset(
        self,
        data: JSONBody[VerifyReset],
        visitor: NamedDependency[Visitor],
        password_reset: NamedDependency[PasswordReset],
    ) -> UserView:
        """
        The new password is valid at once, and all sessions have ended: sign in again. A code works once, within five
        minutes, and allows five attempts; a refused new password uses none of them.
        """
        return await password_reset.finish(
            session_id=data.session_id, code=data.code, new_password=data.new_password, visitor=visitor
        )
