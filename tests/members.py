"""Members for the tests of `/users/`: unlike `tests.persons` they come in by the front door, with a code."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

PASSWORD = "correct horse battery staple"

Answer = dict[str, Any]


class Member(Struct, kw_only=True):
    """Someone who has registered and signed in."""

    user: Answer
    tokens: Answer
    password: str = PASSWORD

    @property
    def headers(self) -> dict[str, str]:
        """What signs their requests."""
        return {"Authorization": f"Bearer {self.tokens['access']}"}


Join = Callable[..., Awaitable[Member]]
CodeOf = Callable[[Answer], Awaitable[str]]
