"""`/users/sessions/`: where somebody is signed in, and signing out elsewhere."""

from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, route
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from actors.refusals import DatabaseUnavailable
from app.auth.sessions import SessionNotFound, Sessions, SessionView
from app.auth.tokens import SIGNED_OUT, Caller, signed_in
from app.http.controller import OrderedController
from app.http.problems import ValidationFailed, problems

_EXAMPLE = Example(
    summary="One session",
    value=[
        {
            "id": "3f1c1f0e-5a0b-4c57-9a56-5d1d3a4d7c11",
            "signed_in_at": "2026-11-23T19:23:52.702944Z",
            "last_used_at": "2026-11-24T08:10:02.113200Z",
            "expires_at": "2026-12-08T08:10:02.113200Z",
            "user_agent": "Mozilla/5.0",
            "current": True,
        }
    ],
)


SessionId = Annotated[UUID, PathParameter(description="The session's id, from the list.")]


class SessionsController(OrderedController):
    """Sessions: each is one sign-in, and lives for as long as its refresh tokens are exchanged."""

    path = "/users"
    tags = ("Users",)

    # First, since Litestar's own answer to OPTIONS names only the method that it meets first on a path.
    @route("/sessions", http_method="OPTIONS", status_code=204, include_in_schema=False)
    async def allowed_on_sessions(self) -> Response[None]:
        """What may be done with the list."""
        return Response(None, headers={"Allow": "DELETE, GET, OPTIONS"})

    @get(
        "/sessions",
        before_request=signed_in,
        summary="List your sessions",
        responses={
            200: ResponseSpec(
                list[SessionView], description="Your sessions.", generate_examples=False, examples=[_EXAMPLE]
            ),
            **problems(*SIGNED_OUT, DatabaseUnavailable),
        },
    )
    async def sessions(self, caller: NamedDependency[Caller], sessions: NamedDependency[Sessions]) -> list[SessionView]:
        """
        Lists your active sessions, newest sign-in first, at most 200.

        `last_used_at` is when the session last got a pair of tokens; `user_agent` is what the client sent at sign-in.
        """
        return await sessions.live(caller)

    @delete(
        "/sessions",
        before_request=signed_in,
        summary="Sign out everywhere else",
        response_description="All other sessions have ended.",
        responses=problems(*SIGNED_OUT, DatabaseUnavailable),
    )
    async def end_other_sessions(self, caller: NamedDependency[Caller], sessions: NamedDependency[Sessions]) -> None:
        """Ends all your sessions except the current one."""
        await sessions.end_others(caller)

    @delete(
        "/sessions/{id:uuid}",
        before_request=signed_in,
        summary="End a session",
        response_description="The session has ended.",
        responses=problems(ValidationFailed, *SIGNED_OUT, SessionNotFound, DatabaseUnavailable),
    )
    async def end_session(
        self, caller: NamedDependency[Caller], id: SessionId, sessions: NamedDependency[Sessions]
    ) -> None:
        """Ends one of your sessions, which may be the current one. Its tokens are refused everywhere within seconds."""
        await sessions.end(caller, id)
