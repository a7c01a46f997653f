"""Exchange rates: asked for, doubted, and published if they can be believed."""

import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.outages import of_redis
from db.clocks import CLOCKS_DIFFER
from db.transaction import transaction
from tasks.rates.api import Quote, RatesSource, SourceFault, ask
from tasks.rates.store import Known, cache, cached, hold_records, record, recorded, snapshot

# A first rate has nothing to be compared with but the bundled snapshot, which grows old: only nonsense is caught,
# such as a price the wrong way round or in hundreds.
FIRST_RATE_FACTOR = 5

_log = logging.getLogger(__name__)


class RatesFetched(Struct, kw_only=True):
    """
    What came of asking for rates. `reason` says why they were not believed or not had.

    `stale` are rates that the source itself dates further back than rates are believed; nothing is kept of them.
    """

    outcome: Literal["changed", "unchanged", "stale", "rejected", "failed"]
    source: str | None = None
    as_of: datetime | None = None
    per_dollar: dict[str, Decimal] = {}
    reason: str | None = None
    snapshot_in_use: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the source has confirmed what conversions use, or has changed it."""
        return self.outcome in {"changed", "unchanged"}


async def fetch_rates(redis: Redis, source: RatesSource, *, development: bool, accept: bool = False) -> RatesFetched:
    """
    Ask the source, and publish what it says if it can be believed; with `accept`, however large the change is, but
    never what is dated in the future.

    In development, where there are no valid rates otherwise, the bundled snapshot is published. Raises only what
    PostgreSQL raises when it can't be reached; without Redis the rates are recorded and the boards find them there.
    """
    try:
        quote = await ask(source)
    except SourceFault as fault:
        fetched = RatesFetched(outcome="failed", reason=str(fault))
    else:
        fetched = await _publish(redis, source, quote, accept)
    if not fetched.succeeded:
        fetched.snapshot_in_use = development and await publish_snapshot(redis, source)
        level = logging.INFO if fetched.snapshot_in_use else logging.WARNING
        _log.log(level, "Exchange rates %s: %s", fetched.outcome, fetched.reason)
    return fetched


async def _publish(redis: Redis, source: RatesSource, quote: Quote, accept: bool) -> RatesFetched:
    known = Known(quote=quote, asked_at=datetime.now(UTC))
    fetched = RatesFetched(outcome="unchanged", source=quote.source, as_of=quote.as_of, per_dollar=quote.per_dollar)
    if known.rates(timedelta(hours=source.max_age_hours)).valid_until <= known.asked_at:
        fetched.outcome = "stale"
        fetched.reason = (
            f"The rate source is up, but its rates are of {quote.as_of:%Y-%m-%d %H:%M} UTC, and conversions take none"
            f" older than the {source.max_age_hours:g} hours of WALLET_RATES_MAX_AGE_HOURS."
        )
        return fetched
    if quote.as_of > known.asked_at + CLOCKS_DIFFER:
        fetched.outcome = "rejected"
        fetched.reason = (
            f"The rate source's rates are dated in the future, {quote.as_of:%Y-%m-%d %H:%M} UTC, so nobody knows how"
            " old they are. Either its clock is wrong or that of this machine."
        )
        return fetched
    async with transaction():
        await hold_records()
        last = await recorded(snapshots=False)
        if doubt := None if accept else _doubt(quote, last.quote if last else None, source.max_change_percent):
            return RatesFetched(
                outcome="rejected", source=quote.source, as_of=quote.as_of, per_dollar=quote.per_dollar, reason=doubt
            )
        shown = await recorded(snapshots=True)
        if shown is None or shown.is_snapshot or shown.quote.per_dollar != quote.per_dollar:
            await record(quote)
            fetched.outcome = "changed"
    await _cache_if_possible(redis, known)
    return fetched


def _doubt(quote: Quote, last: Quote | None, max_change_percent: Decimal) -> str | None:
    """Why a quote should not be believed, as a sentence; None if it should."""
    bundled = snapshot()
    for currency, price in quote.per_dollar.items():
        before = last.per_dollar.get(currency) if last else None
        if before is None:  # the first rate, or the first of a new currency
            expected = bundled.per_dollar[currency]
            if not expected / FIRST_RATE_FACTOR <= price <= expected * FIRST_RATE_FACTOR:
                return f"{price:f} {currency} for a dollar is too far from the {expected:f} of the {bundled.source}."
        elif (change := abs(price / before - 1) * 100) > max_change_percent:
            return (
                f"{currency} would go from {before:f} to {price:f} for a dollar, a change of {change:.1f} percent"
                f" where {max_change_percent:f} are allowed. If that is true, accept it with `wallet rates --accept`."
            )
    return None


async def publish_snapshot(redis: Redis, source: RatesSource) -> bool:
    """Where there are no valid rates, publish the bundled snapshot, and say whether it is what serves now."""
    now, max_age = datetime.now(UTC), timedelta(hours=source.max_age_hours)
    with suppress(RedisError, OSError):
        present = await cached(redis)
        if present and not present.is_snapshot and present.usable(max_age):
            return False
    quote = snapshot()
    async with transaction():
        await hold_records()
        last = await recorded(snapshots=True)
        if last and not last.is_snapshot and last.usable(max_age):
            known, new = last, False
        else:
            known, new = Known(quote=quote, asked_at=now), last is None or last.quote != quote
        if new:
            await record(quote)
    await _cache_if_possible(redis, known)
    return known.is_snapshot


async def _cache_if_possible(redis: Redis, known: Known) -> None:
    try:
        await cache(redis, known)
    except (RedisError, OSError) as error:
        _log.warning("Rates are recorded but not kept: %s.", of_redis(error))
