"""
Whether PostgreSQL's clock can be believed by what deletes what is old.

A clock that is ahead by a month for ten seconds makes everything old. So a worker looks at it all the time and keeps
what it has seen: where the time is not soon after that, the clock has jumped, or nobody knows whether it has. Then
nothing is deleted until it has gone on steadily for as long as the longest promise: what was there before is old by
then, whatever the clock says. A jump ahead and the one back are two, and the second one counts.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta

from db.clocks import CLOCKS_DIFFER
from db.engine import UNAVAILABLE
from db.tables import UpkeepClock

LOOK_SECONDS = 5.0
# For so long nobody may have looked, such as during an upgrade of the workers. Keys live a day longer than is promised.
UNSEEN = timedelta(hours=1)
DOUBT = timedelta(days=8)

_LOOK = """
INSERT INTO upkeep_clock AS known (id, seen_at) VALUES (1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, doubted_at = CASE
    WHEN excluded.seen_at BETWEEN known.seen_at - {}::interval AND known.seen_at + {}::interval THEN known.doubted_at
    ELSE excluded.seen_at
END
RETURNING seen_at, doubted_at
"""
_IN_DOUBT = "SELECT now() < doubted_at + {}::interval AS in_doubt FROM upkeep_clock"

_log = logging.getLogger(__name__)


async def look() -> datetime | None:
    """
    The time, as of which something may be called old; None while the clock is in doubt.

    Raises what the database raises when it can't be reached.
    """
    (clock,) = await UpkeepClock.raw(_LOOK, CLOCKS_DIFFER, UNSEEN)
    now: datetime = clock["seen_at"]
    doubted_at: datetime | None = clock["doubted_at"]
    if doubted_at == now:
        _log.warning(
            "PostgreSQL's clock has jumped to %s, or no worker has looked at it for an hour: nothing is deleted until"
            " it has gone on steadily for %d days.",
            now.isoformat(timespec="seconds"),
            DOUBT.days,
        )
    return now if doubted_at is None or now >= doubted_at + DOUBT else None


async def in_doubt() -> bool:
    """Whether nothing is deleted now."""
    rows = await UpkeepClock.raw(_IN_DOUBT, DOUBT)
    return bool(rows and rows[0]["in_doubt"])


async def watch() -> None:
    """Look once, and wait until the next time."""
    with suppress(*UNAVAILABLE):  # others tell of that
        await look()
    await asyncio.sleep(LOOK_SECONDS)
