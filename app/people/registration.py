"""`/users/create/` and `/users/verify/`: someone is pending first, then a person."""

from typing import Annotated
from uuid import UUID, uuid4

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from actors.refusals import Refusal
from app.http.controller import OrderedController
from app.http.fields import PUBLIC, Unshown
from app.http.problems import problems
from app.limits.requests import LIMITED, RateLimiter
from app.limits.visitor import LimitedResponse, Visitor
from app.people.codes import AwaitedCodes, Codes, InvalidCode
from app.people.contacts import email_address, phone_number
from app.people.fields import ANY_BODY, AWAITS_CODE, Code, Email, Password, Phone
from app.people.passwords.hashing import Passwords
from app.people.passwords.policy import check_new_password
from app.people.profiles import UserView
from db.tables import User
from db.transaction import transaction
from tasks.messages.outbox import Outbox

# Whom nobody writes to: what is for the owner of a free number is written to it, and erased in the same commit.
_NOBODY = "nobody@example.com"


class CreateUser(Struct, frozen=True):
    """Who wants to register."""

    email: Email
    phone_number: Phone
    password: Password


class VerifyUser(Struct, frozen=True):
    """A session and the codes that were sent for it."""

    session_id: UUID
    code: Code
    phone_code: (
        Annotated[
            Unshown,
            Meta(
                max_length=16,
                description="The six digits of the SMS. Required if `channels` has `sms`, otherwise refused.",
            ),
        ]
        | None
    ) = None


class UserExists(Refusal):
    code = "user_exists"
    title = "Someone has registered with this email address or phone number."
    detail = "Another registration was confirmed first. Sign in, or register with other details."


class Registration(Struct, frozen=True, kw_only=True):
    """What waits in Redis for the codes. The id is chosen here, so that confirming twice makes one person."""

    user_id: UUID
    email: str
    phone_number: str
    password_hash: str
    phone_taken: bool = False


class Owner(Struct, frozen=True):
    """Someone who has the email address or the phone number of a registration already."""

    email: str
    phone_number: str


class Registrations(Struct, frozen=True, kw_only=True):
    """Starts registrations and finishes them."""

    passwords: Passwords
    codes: Codes
    limiter: RateLimiter
    outbox: Outbox
    phone_region: str
    phone_types: frozenset[str]
    development: bool

    async def start(self, *, email: str, phone: str, password: str, visitor: Visitor) -> AwaitedCodes:
        """
        Keep a registration until its codes are given, and send them: one by email and, through a gateway, one by SMS.

        What is free gets its code, whether or not the other is taken, and the owner of what is taken gets a notice; no
        codes finish such a registration. So answer and work are the same, and whoever reads the mail of an address, or
        the SMS of a phone, learns from them only what is their own.
        """
        email = email_address(email, development=self.development)
        phone = phone_number(phone, region=self.phone_region, types=self.phone_types)
        await self.passwords.checked(
            check_new_password, password, field="password", email=email, phone_number=phone, region=self.phone_region
        )
        await self.limiter.code(email, phone, visitor)
        password_hash = await self.passwords.hash(password)
        owners = await owners_of(email, phone)
        email_taken = any(owner.email == email for owner in owners)
        phone_owner = next((owner.email for owner in owners if owner.phone_number == phone), None)
        registration = Registration(
            user_id=uuid4(),
            email=email,
            phone_number=phone,
            password_hash=password_hash,
            phone_taken=phone_owner is not None,
        )
        # Where only the phone is taken, the code that was mailed redeems the session, and `finish` refuses it.
        awaited, code, phone_code = await self.codes.open_registration(
            msgspec.json.encode(registration), sms=self.outbox.sms, redeemable=not email_taken
        )
        code_event = f"registration_code:{awaited.session_id}"
        notice_event = f"registration_attempt:{awaited.session_id}"
        needless = {
            code_event: email_taken,
            f"{code_event}:sms": phone_owner is not None,
            notice_event: not email_taken,
            f"{notice_event}:phone": phone_owner in (None, email),  # nobody's, or of who is told already
        }
        async with transaction():
            await self._owe_codes(code_event, registration, code, phone_code)
            for event, owner in ((notice_event, email), (f"{notice_event}:phone", phone_owner or _NOBODY)):
                # To an address and not to a user: a reference to a row would have to be looked up, for the known only.
                await self.outbox.owe(event=event, template="registration_attempt", recipient=owner)
            await self.outbox.erase(*(event for event, erased in needless.items() if erased))
        await self.outbox.hasten()
        return awaited

    async def _owe_codes(self, event: str, registration: Registration, code: str, phone_code: str | None) -> None:
        second = {"second_code": "sms"} if phone_code else {}
        await self.outbox.owe(
            event=event, template="registration_code", recipient=registration.email, params=second, code=code
        )
        await self.outbox.owe(
            event=f"{event}:sms",
            template="registration_code",
            channel="sms",
            recipient=registration.phone_number,
            code=phone_code,
        )

    async def finish(self, *, session_id: UUID, code: str, phone_code: str | None, visitor: Visitor) -> UserView:
        """
        Make the person who was pending.

        Raises:
            InvalidCode: the codes do not confirm this session.
            UserExists: another registration with this email or phone was confirmed first.
            ValidationFailed: the phone's code is missing, or none was sent. No try is lost.
        """
        await self.limiter.verification(visitor)
        async with self.codes.redeemed("registration", session_id, code, phone_code) as pending:
            registration = msgspec.json.decode(pending, type=Registration)
            async with transaction():
                await make_user(registration)
                await self.outbox.owe(
                    event=f"welcome:{registration.user_id}", template="welcome", user_id=registration.user_id
                )
        await self.outbox.hasten()
        # Known without asking: the person exists now, even if the database is lost before it can say so.
        return UserView(
            id=registration.user_id,
            email=registration.email,
            phone_number=registration.phone_number,
            first_name="",
            last_name="",
            profile_image=None,
            wallets=[],
        )


async def owners_of(email: str, phone: str) -> list[Owner]:
    """Who has the email or the phone number already: nobody, one person or two."""
    taken = (User.email == email) | (User.phone_number == phone)
    return [Owner(**row) for row in await User.select(User.email, User.phone_number).where(taken)]


async def make_user(registration: Registration) -> None:
    """
    Make the person, unless this very registration has done so already, in a commit that was in doubt.

    Raises:
        UserExists: someone else has the email or the phone number.
        InvalidCode: someone else had the phone number when the registration began. But where the email was taken
            since, it is `UserExists` as for any other registration: with an account for one address, whose owner has
            begun registrations with many numbers, they would learn which of those were taken.
    """
    if registration.phone_taken and not await User.exists().where(User.email == registration.email):
        raise InvalidCode()
    await User.raw(
        'INSERT INTO "user" (id, email, phone_number, password_hash) VALUES ({}, {}, {}, {}) ON CONFLICT DO NOTHING',
        registration.user_id,
        registration.email,
        registration.phone_number,
        registration.password_hash,
    )
    if not await User.exists().where(User.id == registration.user_id):
        raise UserExists()


class RegistrationController(OrderedController):
    """How somebody becomes a person here."""

    path = "/users"
    tags = ("Users",)
    security = PUBLIC
    response_class = LimitedResponse

    @post(
        "/create",
        summary="Start a registration",
        response_description=AWAITS_CODE,
        responses=problems(*ANY_BODY, *LIMITED),
    )
    async def create(
        self,
        data: JSONBody[CreateUser],
        visitor: NamedDependency[Visitor],
        registrations: NamedDependency[Registrations],
    ) -> AwaitedCodes:
        """
        Sends a six-digit code by email and, if `channels` has `sms`, another one by SMS. Send them to `/users/verify/`
        within `expires_in` seconds, as `code` and `phone_code`. The most common passwords are refused, and so are your
        own email address and phone number.

        The answer is the same if the email address or phone number is taken. Its owner then gets a notice, and no code
        finishes the registration.
        """
        return await registrations.start(
            email=data.email, phone=data.phone_number, password=data.password, visitor=visitor
        )

    @post(
        "/verify",
        summary="Finish a registration",
        response_description="The new user.",
        responses=problems(*ANY_BODY, InvalidCode, UserExists, *LIMITED),
    )
    async def verify(
        self,
        data: JSONBody[VerifyUser],
        visitor: NamedDependency[Visitor],
        registrations: NamedDependency[Registrations],
    ) -> UserView:
        """
        Creates the user. Codes work once, within five minutes, and allow five attempts. If there are two, they are
        checked together: `invalid_code` does not tell which one was wrong.
        """
        return await registrations.finish(
            session_id=data.session_id, code=data.code, phone_code=data.phone_code, visitor=visitor
        )
