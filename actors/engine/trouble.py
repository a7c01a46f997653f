"""What goes wrong again and again: said once, and tried again with growing pauses."""

import logging
import math
from time import monotonic

from redis.exceptions import RedisError

from actors.engine.outages import of_either
from db.engine import UNAVAILABLE

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
# What comes and goes is not said more often than this.
QUIET_SECONDS = 60.0

_DOUBLED_AT_MOST = 10


class Trouble:
    """
    What ails a loop.

    Each kind of error is said once until it is over. An outage is worth a line; anything else deserves its traceback.
    """

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._failures = 0
        self._present: set[type[Exception]] = set()  # said, and not over yet
        self._said_at: dict[type[Exception], float] = {}

    def met(self, error: Exception) -> float:
        """Note a failure, and return how many seconds to wait before the next attempt."""
        kind = type(error)
        now = monotonic()
        if kind not in self._present and now - self._said_at.get(kind, -math.inf) >= QUIET_SECONDS:
            self._present.add(kind)
            self._said_at[kind] = now
            self._say(error)
        pause: float = FIRST_PAUSE_SECONDS * 2 ** min(self._failures, _DOUBLED_AT_MOST)
        self._failures += 1
        return min(pause, LONGEST_PAUSE_SECONDS)

    def over(self) -> None:
        """Note a success."""
        if self._failures:
            self._failures = 0
            if self._present:
                self._present.clear()
                self._log.info("%s works again", self._what)

    def _say(self, error: Exception) -> None:
        outage = isinstance(error, (RedisError, *UNAVAILABLE))
        self._log.log(
            logging.WARNING if outage else logging.ERROR,
            "%s failed: %s; it goes on trying, with pauses, and says so once",
            self._what,
            of_either(error) if outage else type(error).__name__,
            exc_info=None if outage else error,
        )
