"""Where rates are kept: the present ones in Redis, every change in PostgreSQL, a dated snapshot in a file."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from actors.money import Rates
from db.clocks import CLOCKS_DIFFER
from db.currencies import CURRENCIES
from db.tables import ExchangeRate
from db.transaction import run
from tasks.rates.api import Quote

RATES_KEY = "wallet:rates"
# The source publishes once a day and its open endpoint wants to be asked about once an hour. After a failure the next
# run of the job, minutes later, tries again.
ASK_AGAIN_AFTER = timedelta(minutes=55)
ASK_PERIOD = timedelta(minutes=5)
SNAPSHOT_PREFIX = "snapshot of "

_SNAPSHOT = Path(__file__).with_name("snapshot.json")

# Whoever compares new rates with the last ones and writes them holds this lock of the database until the commit.
_ADVISORY_LOCK = 7_264_539_001


class Known(Struct, frozen=True, kw_only=True):
    """A quote, and when its source was last asked successfully."""

    quote: Quote
    asked_at: datetime

    @property
    def is_snapshot(self) -> bool:
        """Whether this is the bundled snapshot, which production never uses."""
        return self.quote.source.startswith(SNAPSHOT_PREFIX)

    def is_overdue(self, now: datetime) -> bool:
        """Whether the source should have confirmed it since, and has not for longer than a period of the job."""
        return not now - ASK_AGAIN_AFTER - 2 * ASK_PERIOD <= self.asked_at <= now + CLOCKS_DIFFER

    @property
    def since(self) -> datetime:
        """
        The moment from which their age counts.

        It is the older of two: when the source was last asked, and the moment its prices speak of. So neither a source
        that goes on repeating last week's prices nor one whose clock is ahead is believed for longer than one that
        can't be reached. The snapshot has no age but that of its last use.
        """
        return self.asked_at if self.is_snapshot else min(self.asked_at, self.quote.as_of)

    def usable(self, max_age: timedelta) -> bool:
        """Whether they are of the past, and not too old. What is dated in the future may be of any age."""
        now = datetime.now(UTC)
        return now - max_age < self.since <= now + CLOCKS_DIFFER

    def asked_within(self, span: timedelta) -> bool:
        """Whether the source was asked that lately; not where that is in the future, since then nobody knows."""
        now = datetime.now(UTC)
        return now - span < self.asked_at <= now + CLOCKS_DIFFER

    def rates(self, max_age: timedelta) -> Rates:
        """The rates as conversions use them."""
        return Rates(
            per_dollar=self.quote.per_dollar,
            source=self.quote.source,
            as_of=self.quote.as_of,
            valid_until=self.since + max_age,
        )


def snapshot() -> Quote:
    """The bundled rates: for development without internet, and to compare a first rate with."""

    class File(Struct):
        as_of: datetime
        per_dollar: dict[str, Decimal]

    file = msgspec.json.decode(_SNAPSHOT.read_bytes(), type=File)
    return Quote(per_dollar=file.per_dollar, source=f"{SNAPSHOT_PREFIX}{file.as_of:%Y-%m-%d}", as_of=file.as_of)


async def cached(redis: Redis) -> Known | None:
    """What Redis holds. Raises what redis-py raises when it can't be reached."""
    kept = await redis.get(RATES_KEY)
    try:
        return msgspec.json.decode(kept, type=Known) if kept else None
    except msgspec.DecodeError:
        return None  # Not ours, or of another version: as good as nothing, PostgreSQL knows better.


async def cache(redis: Redis, known: Known) -> None:
    """Keep it in Redis, for everyone's board."""
    await redis.set(RATES_KEY, msgspec.json.encode(known))


async def recorded(*, snapshots: bool) -> Known | None:
    """
    The last rates in PostgreSQL, the bundled snapshot's too if `snapshots`.

    A row tells when a rate changed, not when it was last confirmed, so what is rebuilt from rows counts as older
    than it may be, never as younger.
    """
    rows: list[dict[str, Any]] = await ExchangeRate.raw(
        "SELECT DISTINCT ON (quote) quote, rate, source, as_of, created_at FROM exchange_rate"
        " WHERE base = 'USD' AND ({} OR NOT starts_with(source, {})) ORDER BY quote, id DESC",
        snapshots,
        SNAPSHOT_PREFIX,
    )
    if not rows:
        return None
    last = max(rows, key=lambda row: row["created_at"])
    per_dollar = {"USD": Decimal(1)} | {row["quote"]: row["rate"] for row in rows}
    return Known(
        quote=Quote(per_dollar=per_dollar, source=last["source"], as_of=last["as_of"]), asked_at=last["created_at"]
    )


async def hold_records() -> None:
    """Until the current transaction ends, let nobody else compare and record rates."""
    await run("SELECT pg_advisory_xact_lock($1::bigint)", _ADVISORY_LOCK)


async def record(quote: Quote) -> None:
    """Keep a change for good: a row for each ordered pair of currencies, with the figure that conversions use."""
    rates = Rates(
        per_dollar=quote.per_dollar,
        source=quote.source,
        as_of=quote.as_of,
        valid_until=datetime.max.replace(tzinfo=UTC),
    )
    pairs = [pair for pair in permutations(CURRENCIES, 2) if rates.know(*pair)]
    await ExchangeRate.raw(
        "INSERT INTO exchange_rate (base, quote, rate, source, as_of)"
        " SELECT base, quote, rate, {}, {}"
        " FROM unnest({}::text[], {}::text[], {}::numeric[]) AS pair (base, quote, rate)",
        quote.source,
        quote.as_of,
        [base for base, _ in pairs],
        [to for _, to in pairs],
        [rates.rate(base, to) for base, to in pairs],
    )
