"""
Which sessions have been revoked lately: asked of PostgreSQL in the background, so that no request has to ask.

Every process asks every few seconds for what is new. `Tokens` then refuses the access tokens of those sessions; the
process that has revoked one told it by itself, at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic

from actors.engine.background import in_background
from actors.engine.outages import of_postgres
from app.auth.tokens import Tokens
from db.tables import RefreshToken

CATCH_UP_SECONDS = 5.0
QUESTION_SECONDS = 5.0
# A revocation shows at its commit, some time after the moment that it bears; no transaction of ours lives so long.
OVERLAP_SECONDS = 60.0

# Back from the earlier of two moments, PostgreSQL's present and one that is known of before: its clock may have jumped
# meanwhile, ahead or back, and what was revoked just before the jump is news all the same.
_LATELY = """
SELECT DISTINCT "family", NULL::timestamptz AS "now" FROM "refresh_token"
WHERE "revoked_at" IS NOT NULL AND "revoked_at" > least(now(), {}) - make_interval(secs => {})
UNION ALL SELECT NULL, now()
"""

log = logging.getLogger(__name__)


class Revocations:
    """Keeps the `Tokens` of this process informed."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._caught_up_at: float | None = None
        self._database_time: datetime | None = None  # when that was by PostgreSQL's clock
        self._in_the_dark = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Catch up once, then again and again in the background for as long as the block runs; never raises."""
        await self.catch_up()
        async with in_background(self._catch_up_later):
            yield

    async def catch_up(self) -> None:
        """Learn of what was revoked since the last time. Where the database does not answer, what is known stays."""
        begun = monotonic()
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                rows = await RefreshToken.raw(_LATELY, *self._back_to(begun))
        except Exception as error:  # noqa: BLE001 whatever ails PostgreSQL, the next time reaches as far back
            if not self._in_the_dark:
                log.warning("Revoked sessions can't be read: %s.", of_postgres(error))
            self._in_the_dark = True
            return
        if self._in_the_dark:
            log.info("Revoked sessions can be read again.")
        self._in_the_dark, self._caught_up_at, self._database_time = False, begun, rows[-1]["now"]
        self._tokens.revoke(row["family"] for row in rows if row["family"])

    def _back_to(self, elapsed: float) -> tuple[datetime, float]:
        """A moment that has been, and how many seconds before it the oldest revocation is that may be news."""
        longest = self._tokens.revocations_matter_seconds
        if self._caught_up_at is None or self._database_time is None or elapsed - self._caught_up_at > longest:
            return datetime.now(UTC), longest  # by this host's clock, which is another one
        return self._database_time, OVERLAP_SECONDS

    async def _catch_up_later(self) -> None:
        await asyncio.sleep(CATCH_UP_SECONDS)
        await self.catch_up()
