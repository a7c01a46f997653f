"""Where a request comes from, and what its answer says of the limits that have counted who asks."""

from collections.abc import Mapping
from typing import Any, TypeVar

from litestar import Request, Response
from litestar.response.base import ASGIResponse
from msgspec import Struct

T = TypeVar("T")


class Standing(Struct, frozen=True):
    """How much of a limit is left, and for how many seconds that holds."""

    policy: str
    most: int
    window_seconds: int
    left: int
    seconds: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit": f'"{self.policy}";r={self.left};t={self.seconds}',
            "RateLimit-Policy": f'"{self.policy}";q={self.most};w={self.window_seconds}',
        }


class Visitor(Struct, kw_only=True):
    """
    Where a request comes from, and of all limits that have counted this visitor the one of which least is left.

    Limits that count by what a visitor claims (a phone number, an email address) are `withheld` until they have proven
    that it is theirs. Or strangers would see by what is left whether somebody else was there lately.
    """

    address: str
    tightest: Standing | None = None
    withheld: list[Standing] = []

    def told(self, standing: Standing, *, claimed: bool = False) -> None:
        """Remember how much a limit leaves, if it leaves less than the others."""
        if claimed:
            self.withheld.append(standing)
        elif self.tightest is None or standing.left < self.tightest.left:
            self.tightest = standing

    def proven(self) -> None:
        """They are who they claim to be, so what was withheld is theirs to know."""
        for standing in self.withheld:
            self.told(standing)
        self.withheld.clear()

    @property
    def headers(self) -> Mapping[str, str]:
        """What the answer says of limits: nothing where none has counted them."""
        return self.tightest.headers if self.tightest else {}


async def visitor(request: Request[Any, Any, Any]) -> Visitor:
    """A dependency: where the request comes from, as far as the server in front tells."""
    request.state.visitor = Visitor(address=request.client.host if request.client else "")
    return request.state.visitor  # type: ignore[no-any-return]  # Litestar's state holds anything


class LimitedResponse(Response[T]):
    """Says in its headers how much is left of the limits that have counted the `visitor` who asked."""

    def to_asgi_response(
        self, app: Any, request: Request[Any, Any, Any], *, headers: dict[str, str] | None = None, **options: Any
    ) -> ASGIResponse:
        """The base's, with these headers. A hook after the request would not know whose answer it sees."""
        visitor: Visitor | None = getattr(request.state, "visitor", None)  # none where no limit has counted
        headers = {**(headers or {}), **(visitor.headers if visitor else {})}
        return super().to_asgi_response(app, request, headers=headers, **options)
