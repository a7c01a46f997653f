"""`/users/password/reset/`: a forgotten password."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from app.controllers.users import ANY_BODY, PUBLIC, WAITING, YOU, Asked, Code, Password, Phone, limited, visitor_of
from app.http.bodies import PlainText
from app.http.problems import FieldError, ValidationFailed, problems
from app.limits.requests import RateLimited
from app.people.codes import InvalidCode, Session
from app.people.people import People
from app.people.profiles import UserView


class ResetPassword(Struct, frozen=True):
    """Who has forgotten their password: by phone number or by email address, one of the two."""

    phone_number: Phone | None = None
    email: Annotated[PlainText, Meta(max_length=254, description="In place of a phone number.")] | None = None


class VerifyReset(Struct, frozen=True):
    """A session, the code that was sent for it, and the password that is to count."""

    session_id: UUID
    code: Code
    new_password: Password


class ResetsController(Controller):
    """Resets of passwords."""

    path = "/users/password/reset"
    tags = ("Users",)

    @post(
        "/",
        security=PUBLIC,
        summary="Start a reset of password",
        response_description=WAITING,
        responses=problems(*ANY_BODY, RateLimited),
    )
    async def reset_password(
        self, request: Asked, data: JSONBody[ResetPassword], people: NamedDependency[People]
    ) -> Response[Session]:
        """
        A six-digit code goes to the person's own email address, and to their phone where there is an SMS gateway; give
        it to `/users/password/reset/verify/`.

        The answer is the same where nobody has this phone number or email address.
        """
        if (data.phone_number is None) == (data.email is None):
            message = "Give the phone number or the email address: one of the two."
            raise ValidationFailed(FieldError(field="phone_number", message=message))
        visitor = visitor_of(request)
        return limited(visitor, await people.resets.start(email=data.email, phone=data.phone_number, visitor=visitor))

    @post(
        "/verify",
        security=PUBLIC,
        summary="Finish a reset of password",
        response_description=YOU,
        responses=problems(*ANY_BODY, InvalidCode, RateLimited),
    )
    async def verify_reset(
        self, request: Asked, data: JSONBody[VerifyReset], people: NamedDependency[People]
    ) -> Response[UserView]:
        """
        The new password counts from now on, and every session has ended: sign in. A code is good for one use within
        five minutes, and for five tries; a new password that is refused spends nothing.
        """
        visitor = visitor_of(request)
        user = await people.resets.finish(
            session_id=data.session_id, code=data.code, new_password=data.new_password, visitor=visitor
        )
        return limited(visitor, user)
