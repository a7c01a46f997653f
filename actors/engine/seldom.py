"""Warnings about a state that lasts."""

import logging
from time import monotonic

_QUIET_SECONDS = 60.0


class Seldom:
    """A warning that is said once a minute at most: the log does not need it with every request."""

    def __init__(self, log: logging.Logger, message: str) -> None:
        self._log = log
        self._message = message
        self._quiet_until = 0.0

    def warn(self, *arguments: object) -> None:
        """Say it, unless it was said less than a minute ago."""
        if monotonic() >= self._quiet_until:
            self._quiet_until = monotonic() + _QUIET_SECONDS
            self._log.warning(self._message, *arguments)
