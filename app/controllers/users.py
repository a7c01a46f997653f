"""`/users/`: registration, tokens, passwords and the profile."""

from typing import Annotated, Any, TypeVar
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from actors.refusals import DatabaseUnavailable, Overloaded
from app.auth.refresh import TokenPair
from app.auth.sessions import device_of
from app.auth.tokens import SIGNED_OUT, Caller, TokenExpired, TokenInvalid, WrongCredentials, signed_in
from app.controllers.profile_form import FORM_BYTES_MAX, ProfileOperation, profile_changes
from app.http.bodies import PlainText
from app.http.problems import BAD_BODY, problems
from app.limits.requests import RateLimited, Visitor
from app.people.codes import InvalidCode, Session
from app.people.passwords import LENGTH_MAX, LENGTH_MIN, WrongPassword
from app.people.people import People
from app.people.profiles import UserView
from app.people.registration import UserExists

# In the OpenAPI document: no token is needed.
PUBLIC: list[dict[str, list[str]]] = [{}]

WAITING = "A session, which waits for its code for `expires_in` seconds."
YOU = "Who you are, with your wallets."

ANY_BODY = (*BAD_BODY, Overloaded, DatabaseUnavailable)

T = TypeVar("T")
Asked = Request[Caller, Any, Any]
Email = Annotated[PlainText, Meta(max_length=254, examples=["ann@example.com"])]
Phone = Annotated[
    PlainText, Meta(max_length=40, examples=["+77011234567"], description="With its country code, or a local one.")
]
Password = Annotated[
    PlainText, Meta(min_length=LENGTH_MIN, max_length=LENGTH_MAX, examples=["correct horse battery staple"])
]
Code = Annotated[PlainText, Meta(max_length=16, examples=["042137"], description="The six digits that were sent.")]
Refresh = Annotated[PlainText, Meta(max_length=2048, description="The refresh token of the last pair.")]


class CreateUser(Struct, frozen=True):
    """Who wants to register."""

    email: Email
    phone_number: Phone
    password: Password


class VerifyUser(Struct, frozen=True):
    """A session and the code that was sent for it."""

    session_id: UUID
    code: Code


class UpdatePassword(Struct, frozen=True):
    """The current password and the one that is to replace it."""

    password: Password
    new_password: Password


class CreateToken(Struct, frozen=True):
    """Who signs in."""

    phone_number: Phone
    password: Password


class TokenRefresh(Struct, frozen=True):
    """The refresh token to be exchanged. `access` is not needed and not looked at."""

    refresh: Refresh
    access: Any = None


class UsersController(Controller):
    """People, and how they prove who they are."""

    path = "/users"
    tags = ("Users",)

    @get(
        "/",
        summary="Your profile",
        before_request=signed_in,
        response_description=YOU,
        responses=problems(*SIGNED_OUT, DatabaseUnavailable),
    )
    async def profile(self, request: Asked, people: NamedDependency[People]) -> UserView:
        """Who you are, with your wallets."""
        return await people.profiles.view(request.user.user_id)

    @post(
        "/create",
        security=PUBLIC,
        summary="Start a registration",
        response_description=WAITING,
        responses=problems(*ANY_BODY, RateLimited),
    )
    async def create(
        self, request: Asked, data: JSONBody[CreateUser], people: NamedDependency[People]
    ) -> Response[Session]:
        """
        A six-digit code goes out by email, and by SMS where there is a gateway; give it to `/users/verify/` within
        `expires_in` seconds. The most common passwords, and one's own email address or phone number, are not taken.

        The answer is the same where the email or the phone number is taken: then the owner gets a notice instead.
        """
        visitor = visitor_of(request)
        return limited(
            visitor,
            await people.register(email=data.email, phone=data.phone_number, password=data.password, visitor=visitor),
        )

    @post(
        "/verify",
        security=PUBLIC,
        summary="Finish a registration",
        response_description="The new user.",
        responses=problems(*ANY_BODY, InvalidCode, UserExists, RateLimited),
    )
    async def verify(
        self, request: Asked, data: JSONBody[VerifyUser], people: NamedDependency[People]
    ) -> Response[UserView]:
        """A code is good for one use within five minutes, and for five tries."""
        visitor = visitor_of(request)
        user = await people.confirm_registration(session_id=data.session_id, code=data.code, visitor=visitor)
        return limited(visitor, user)

    @post(
        "/token/create",
        security=PUBLIC,
        summary="Sign in",
        response_description="Tokens. The access token is good for `expires_in` seconds.",
        responses=problems(*ANY_BODY, WrongCredentials, RateLimited),
    )
    async def create_token(
        self, request: Asked, data: JSONBody[CreateToken], people: NamedDependency[People]
    ) -> Response[TokenPair]:
        """
        An access token for the `Authorization` header, and a refresh token for the next pair.

        An unknown phone number and a wrong password are answered alike. Each sign-in is a session: see
        `/users/sessions/`.
        """
        visitor = visitor_of(request)
        pair = await people.sign_in(
            phone=data.phone_number,
            password=data.password,
            visitor=visitor,
            device=device_of(request.headers.get("user-agent")),
        )
        return limited(visitor, pair)

    @post(
        "/token/refresh",
        security=PUBLIC,
        summary="Exchange a refresh token",
        response_description="The next pair. The access token is good for `expires_in` seconds.",
        responses=problems(*ANY_BODY, TokenExpired, TokenInvalid, RateLimited),
    )
    async def refresh_token(
        self, request: Asked, data: JSONBody[TokenRefresh], people: NamedDependency[People]
    ) -> Response[TokenPair]:
        """
        A new pair; the old refresh token is spent. Used again more than ten seconds later, it revokes its whole
        session.
        """
        visitor = visitor_of(request)
        return limited(visitor, await people.refresh(data.refresh, visitor=visitor))

    @post(
        "/password/update",
        summary="Start a change of password",
        response_description=WAITING,
        before_request=signed_in,
        responses=problems(*ANY_BODY, *SIGNED_OUT, WrongPassword, RateLimited),
    )
    async def update_password(
        self, request: Asked, data: JSONBody[UpdatePassword], people: NamedDependency[People]
    ) -> Response[Session]:
        """A six-digit code goes out as at registration; give it to `/users/password/verify/`."""
        visitor = visitor_of(request)
        return limited(
            visitor,
            await people.change_password(
                request.user.user_id, password=data.password, new_password=data.new_password, visitor=visitor
            ),
        )

    @patch(
        "/password/verify",
        summary="Finish a change of password",
        response_description=YOU,
        before_request=signed_in,
        responses=problems(*ANY_BODY, *SIGNED_OUT, InvalidCode, RateLimited),
    )
    async def verify_password(
        self, request: Asked, data: JSONBody[VerifyUser], people: NamedDependency[People]
    ) -> Response[UserView]:
        """The new password counts from now on, and every session has ended: sign in again."""
        visitor = visitor_of(request)
        return limited(
            visitor,
            await people.confirm_password(
                request.user.user_id, session_id=data.session_id, code=data.code, visitor=visitor
            ),
        )

    @patch(
        "/update",
        summary="Change your profile",
        response_description=YOU,
        before_request=signed_in,
        request_max_body_size=FORM_BYTES_MAX,
        operation_class=ProfileOperation,
        responses=problems(*ANY_BODY, *SIGNED_OUT),
    )
    async def update(self, request: Asked, people: NamedDependency[People]) -> UserView:
        """
        Names, and a profile image: as JSON, where `"profile_image": null` removes it, or as a form with a PNG, JPEG or
        WebP file of at most 5 MiB. The image is kept upright and without its metadata, at most 2048 pixels a side.
        """
        return await people.profiles.update(request.user.user_id, await profile_changes(request))


def visitor_of(request: Asked) -> Visitor:
    """Where the request comes from, as far as the server in front tells."""
    return Visitor(address=request.client.host if request.client else "")


def limited(visitor: Visitor, answer: T) -> Response[T]:
    """The answer, and how much of the limits that have counted the request is left."""
    return Response(answer, headers=dict(visitor.headers))
