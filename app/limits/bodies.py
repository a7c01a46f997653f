"""Memory for bodies beyond the ordinary size while they arrive: so much and no more, and nobody has all of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from litestar import Request

from actors.refusals import Overloaded

# As much as any body may have; what is beyond it is for a bulk or an image.
ORDINARY_BYTES = 64 * 1024
ALL_BYTES_MAX = 128 * 1024 * 1024
PERSON_BYTES_MAX = 16 * 1024 * 1024


class LargeBodies:
    """What those that are on their way may come to, by whose they are. One for a process."""

    def __init__(self) -> None:
        self._bytes_of: Counter[UUID] = Counter()

    @contextmanager
    def room(self, request: Request[Any, Any, Any], *, bytes_max: int) -> Iterator[None]:
        """
        Have room for the body of this request, which is a signed-in person's, while the block reads it.

        It is as large as it says, or may become as large as the route lets it be.

        Raises:
            Overloaded: there is no more, of all or of theirs.
        """
        announced = next((value for name, value in request.scope["headers"] if name == b"content-length"), b"")
        bytes_ = min(int(announced), bytes_max) if announced.isdigit() else bytes_max
        if bytes_ <= ORDINARY_BYTES:
            yield
            return
        user_id: UUID = request.user.user_id
        if self._bytes_of[user_id] + bytes_ > PERSON_BYTES_MAX or self._bytes_of.total() + bytes_ > ALL_BYTES_MAX:
            raise Overloaded(
                "Too many large requests are arriving at once. Nothing has happened. Try again in a moment."
            )
        self._bytes_of[user_id] += bytes_
        try:
            yield
        finally:
            self._bytes_of[user_id] -= bytes_
            if not self._bytes_of[user_id]:
                del self._bytes_of[user_id]
