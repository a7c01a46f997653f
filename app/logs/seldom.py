"""A warning about a state that lasts: the log needs it once, not with every request."""

import logging
from time import monotonic

_QUIET_SECONDS = 60.0


class Seldom:
    """One warning, said once a minute at most."""

    def __init__(self, log: logging.Logger, message: str) -> None:
        self._log = log
        self._message = message
        self._quiet_until = 0.0

    def warn(self, *arguments: object) -> None:
        """Say it, unless it was said less than a minute ago."""
        if monotonic() >= self._quiet_until:
            self._quiet_until = monotonic() + _QUIET_SECONDS
            self._log.warning(self._message, *arguments)
