"""Memory for bodies beyond the ordinary size while they arrive: so much and no more, and nobody has all of it."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Request

from actors.refusals import Overloaded
from app.limits.requests import network

# As much as any body may have; what is beyond it is for a bulk or an image.
ORDINARY_BYTES = 64 * 1024
ALL_BYTES_MAX = 128 * 1024 * 1024
# Several people may share an address, as behind a company's router or a mobile network's.
ADDRESS_BYTES_MAX = 32 * 1024 * 1024
PERSON_BYTES_MAX = 16 * 1024 * 1024


class LargeBodies:
    """
    What those that are on their way may come to, by whose they are. One for a process.

    How long they may be on their way is the server's to say: see `app/server/bounds.py`.
    """

    def __init__(self, *, per_address: bool) -> None:
        self._per_address = per_address
        self._bytes_of: Counter[Hashable] = Counter()  # by person, and by address: a UUID and a text
        self._bytes = 0

    @contextmanager
    def room(self, request: Request[Any, Any, Any], *, bytes_max: int) -> Iterator[None]:
        """
        Have room for the body of this request, which is a signed-in person's, while the block reads it.

        It is as large as it says, or may become as large as the route lets it be.

        Raises:
            Overloaded: there is no more, of all, of theirs, or of their address's.
        """
        announced = next((value for name, value in request.scope["headers"] if name == b"content-length"), b"")
        bytes_ = min(int(announced), bytes_max) if announced.isdigit() else bytes_max
        if bytes_ <= ORDINARY_BYTES:
            yield
            return
        shares: dict[Hashable, int] = {request.user.user_id: PERSON_BYTES_MAX}
        if self._per_address and request.client:
            shares[network(request.client.host)] = ADDRESS_BYTES_MAX
        full = self._bytes + bytes_ > ALL_BYTES_MAX
        if full or any(self._bytes_of[whose] + bytes_ > most for whose, most in shares.items()):
            raise Overloaded(
                "Too many large requests are arriving at once. Nothing has happened. Try again in a moment."
            )
        self._bytes += bytes_
        self._bytes_of.update(dict.fromkeys(shares, bytes_))
        try:
            yield
        finally:
            self._bytes -= bytes_
            for whose in shares:
                self._bytes_of[whose] -= bytes_
                if not self._bytes_of[whose]:
                    del self._bytes_of[whose]
