"""The present exchange rates at hand for the hot path: read in the background, from Redis or from PostgreSQL."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from actors.engine.background import in_background
from actors.engine.outages import of_postgres, of_redis
from actors.money import Rates
from tasks.rates.api import RatesSource
from tasks.rates.store import Known, cached, recorded

REFRESH_SECONDS = 3.0
READ_SECONDS = 2.0

_log = logging.getLogger(__name__)


class RateBoard:
    """The present rates of this process, at hand without waiting."""

    def __init__(self, redis: Redis, source: RatesSource, development: bool) -> None:
        self._redis = redis
        self._max_age = timedelta(hours=source.max_age_hours)
        self._development = development
        self._known: Known | None = None
        self._rates: Rates | None = None
        self._trouble: str | None = None

    def current(self) -> Rates | None:
        """The rates, or None where there are none or they are older than allowed; a few seconds behind at most."""
        return self._rates

    def overdue_since(self) -> datetime | None:
        """
        Since when the rates have not been confirmed, where that is longer ago than it should be; the snapshot never is.

        Without Redis nobody can tell: PostgreSQL knows when they changed last.
        """
        known = self._known
        if known is None or known.is_snapshot or self._trouble or not known.is_overdue(datetime.now(UTC)):
            return None
        return known.asked_at

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look once, then keep looking in the background for as long as the block runs; never raises."""
        await self._refresh()
        async with in_background(self._refresh_later):
            yield

    async def _refresh_later(self) -> None:
        await asyncio.sleep(REFRESH_SECONDS)
        await self._refresh()

    async def _refresh(self) -> None:
        troubles: list[str] = []
        found: Known | None = None
        try:
            async with asyncio.timeout(READ_SECONDS):
                found = self._usable(await cached(self._redis))
        except Exception as error:  # noqa: BLE001 whatever ails Redis, PostgreSQL is asked next
            troubles.append(of_redis(error))
        if found is None:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    found = self._usable(await recorded(snapshots=self._development))
            except Exception as error:  # noqa: BLE001 whatever ails PostgreSQL, the last rates serve until they expire
                troubles.append(of_postgres(error))
        if troubles and (held := self._usable(self._known)) and (found is None or found.asked_at <= held.asked_at):
            found = held  # who did not answer may know better, and who did knows nothing newer
        self._known = found
        self._rates = found.rates(self._max_age) if found else None
        self._tell("; ".join(troubles) or None)

    def _usable(self, known: Known | None) -> Known | None:
        if known is None or (known.is_snapshot and not self._development):
            return None
        return known if known.usable(self._max_age) else None

    def _tell(self, trouble: str | None) -> None:
        # Once when it begins and once when it ends, not every few seconds.
        if trouble and trouble != self._trouble:
            _log.warning("Exchange rates can't be read: %s.", trouble)
        elif self._trouble and not trouble:
            _log.info("Exchange rates can be read again.")
        self._trouble = trouble
