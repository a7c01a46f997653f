"""`/users/create/` and `/users/verify/`: someone is pending first, then a person."""

from uuid import UUID, uuid4

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from actors.refusals import Refusal
from app.http.controller import OrderedController
from app.http.fields import PUBLIC
from app.http.problems import problems
from app.limits.requests import LIMITED, RateLimiter
from app.limits.visitor import LimitedResponse, Visitor
from app.people.codes import AwaitedCode, Codes, InvalidCode
from app.people.contacts import email_address, phone_number
from app.people.fields import ANY_BODY, AWAITS_CODE, Email, Password, Phone, VerifyUser
from app.people.passwords.hashing import Passwords
from app.people.passwords.policy import check_new_password
from app.people.profiles import UserView
from db.tables import User
from db.transaction import transaction
from tasks.messages.outbox import Outbox


class CreateUser(Struct, frozen=True):
    """Who wants to register."""

    email: Email
    phone_number: Phone
    password: Password


class UserExists(Refusal):
    code = "user_exists"
    title = "Someone has registered with this email address or phone number."
    detail = "Another registration was confirmed first. Sign in, or register with other details."


class Registration(Struct, frozen=True, kw_only=True):
    """What waits in Redis for the code. The id is chosen here, so that confirming twice makes one person."""

    user_id: UUID
    email: str
    phone_number: str
    password_hash: str


class Registrations(Struct, frozen=True, kw_only=True):
    """Starts registrations and finishes them."""

    passwords: Passwords
    codes: Codes
    limiter: RateLimiter
    outbox: Outbox
    phone_region: str
    development: bool

    async def start(self, *, email: str, phone: str, password: str, visitor: Visitor) -> AwaitedCode:
        """
        Keep a registration until its code is given, and send the code.

        Where the email or the phone is taken, answer and work are the same, but the owners get a notice, and no code
        is right: whoever asks does not learn who has an account.
        """
        email = email_address(email, development=self.development)
        phone = phone_number(phone, region=self.phone_region)
        await self.passwords.checked(
            check_new_password, password, field="password", email=email, phone_number=phone, region=self.phone_region
        )
        await self.limiter.code(email, phone, visitor)
        password_hash = await self.passwords.hash(password)
        registration = Registration(user_id=uuid4(), email=email, phone_number=phone, password_hash=password_hash)
        owners = await owners_of(registration)
        pending = msgspec.json.encode(registration)
        if owners:
            awaited = await self.codes.open_decoy("registration", pending)
        else:
            awaited, code = await self.codes.open("registration", pending)
        async with transaction():
            for owner in owners:
                await self.outbox.owe(
                    event=f"registration_attempt:{awaited.session_id}:{owner}",
                    template="registration_attempt",
                    user_id=owner,
                )
            if not owners:
                await self.outbox.owe(
                    event=f"registration_code:{awaited.session_id}",
                    template="registration_code",
                    recipient=email,
                    phone_number=phone,
                    code=code,
                )
        await self.outbox.hasten()
        return awaited

    async def finish(self, *, session_id: UUID, code: str, visitor: Visitor) -> UserView:
        """
        Make the person who was pending.

        Raises:
            InvalidCode: the code does not confirm this session.
            UserExists: another registration with this email or phone was confirmed first.
        """
        await self.limiter.verification(visitor)
        async with self.codes.redeemed("registration", session_id, code) as pending:
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


async def owners_of(registration: Registration) -> list[UUID]:
    """Who has the email or the phone number already: nobody, one person or two."""
    taken = (User.email == registration.email) | (User.phone_number == registration.phone_number)
    return [row["id"] for row in await User.select(User.id).where(taken)]


async def make_user(registration: Registration) -> None:
    """
    Make the person, unless this very registration has done so already, in a commit that was in doubt.

    Raises:
        UserExists: someone else has the email or the phone number.
    """
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
    ) -> AwaitedCode:
        """
        Sends a six-digit code by email, and by SMS if a gateway is configured. Send it to `/users/verify/` within
        `expires_in` seconds. The most common passwords are refused, and so are your own email address and phone number.

        The answer is the same if the email address or phone number is taken; its owner then gets a notice, not a code.
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
        """Creates the user. A code works once, within five minutes, and allows five attempts."""
        return await registrations.finish(session_id=data.session_id, code=data.code, visitor=visitor)
