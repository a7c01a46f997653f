"""What a dollar costs in tests, in every currency there is: at hand for the rules, or published as a worker does it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from redis.asyncio import Redis

from actors.money import Rates
from db.currencies import CURRENCIES
from tasks.rates.api import Quote
from tasks.rates.store import Known, cache


def prices(**known: str | Decimal) -> dict[str, Decimal]:
    """A price of a dollar in each currency: a dollar where none is given."""
    return dict.fromkeys(CURRENCIES, Decimal(1)) | {code: Decimal(price) for code, price in known.items()}


def rates_at(*, as_of: datetime, valid_until: datetime, **known: str | Decimal) -> Rates:
    """Rates at these prices; see `prices`."""
    return Rates(per_dollar=prices(**known), source="test", as_of=as_of, valid_until=valid_until)


PER_DOLLAR = prices(KZT="512.345678", EUR="0.876543")


async def publish_rates(redis_url: str, *, age: timedelta = timedelta(), ahead: timedelta = timedelta()) -> None:
    """
    Let it be known what a dollar costs: `PER_DOLLAR`, `age` ago. An application reads it when it starts.

    The source's clock is `ahead`.
    """
    then = datetime.now(UTC) - age
    redis: Redis = Redis.from_url(redis_url)
    await cache(redis, Known(quote=Quote(per_dollar=PER_DOLLAR, source="tests", as_of=then + ahead), asked_at=then))
    await redis.aclose()
