"""Rates are fetched, doubted, recorded and believed for a while, whoever of the servers is away."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from db.currencies import CURRENCIES
from db.tables import ExchangeRate
from tasks.rates.api import Quote, RatesSource
from tasks.rates.board import RateBoard
from tasks.rates.fetching import fetch_rates, publish_snapshot
from tasks.rates.store import RATES_KEY, Known, cache, cached, record, snapshot
from tests.helpers.third_parties import WebServer, web_server

KEY = "the-api-key"
PAIRS = [*permutations(CURRENCIES, 2)]


class Source:
    """What the local rate server says; tests change it."""

    kzt = "520.50"
    eur = "0.8600"
    as_of = datetime.now(UTC)
    status = 200

    def answer(self) -> tuple[int, bytes]:
        prices = {**snapshot().per_dollar, "KZT": self.kzt, "EUR": self.eur}
        members = ",".join(f'"{code}":{price}' for code, price in prices.items())
        return self.status, (
            f'{{"result":"success","base_code":"USD","time_last_update_unix":{int(self.as_of.timestamp())},'
            f'"conversion_rates":{{{members}}}}}'
        ).encode()


@pytest.fixture
def says() -> Source:
    return Source()


@pytest.fixture
async def web(says: Source) -> AsyncIterator[WebServer]:
    async with web_server(says.answer) as running:
        yield running


@pytest.fixture
def source(web: WebServer) -> RatesSource:
    return RatesSource(api_key=KEY, base_url=web.url)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def no_redis() -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url("redis://127.0.0.1:9/0", retry=None)
    yield client
    await client.aclose()


async def believed(redis: Redis, source: RatesSource, *, development: bool = False) -> dict[str, Decimal] | None:
    board = RateBoard(redis, source, development)
    async with board.running():
        rates = board.current()
    return dict(rates.per_dollar) if rates else None


async def test_a_change_is_recorded_for_each_pair_and_a_repetition_is_not(
    database: str, redis: Redis, source: RatesSource, web: WebServer, says: Source
) -> None:
    assert (await fetch_rates(redis, source, development=False)).outcome == "changed"
    assert (await fetch_rates(redis, source, development=False)).outcome == "unchanged"
    rows = await ExchangeRate.select()
    assert len(rows) == len(PAIRS)
    figures = {(row["base"], row["quote"]): row["rate"] for row in rows}
    assert figures["USD", "KZT"] == Decimal("520.5")
    assert figures["EUR", "KZT"] == Decimal("605.232558139534")
    assert figures["KZT", "EUR"] == Decimal("0.001652257444")
    says.kzt = "521.00"
    assert (await fetch_rates(redis, source, development=False)).outcome == "changed"
    assert await ExchangeRate.count() == 2 * len(PAIRS)
    assert web.requests[0].startswith(b"GET /v6/the-api-key/latest/USD ")


async def test_without_a_key_the_open_endpoint_is_asked(
    database: str, redis: Redis, source: RatesSource, web: WebServer
) -> None:
    assert (await fetch_rates(redis, replace(source, api_key=""), development=False)).outcome == "changed"
    assert web.requests[0].startswith(b"GET /v6/latest/USD ")


async def test_a_large_step_is_rejected_until_an_operator_accepts_it(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    await fetch_rates(redis, source, development=False)
    says.kzt = "650"
    rejected = await fetch_rates(redis, source, development=False)
    assert rejected.outcome == "rejected"
    assert rejected.reason
    assert "KZT would go from 520.5" in rejected.reason
    assert (await believed(redis, source) or {})["KZT"] == Decimal("520.5")
    assert (await fetch_rates(redis, source, development=False, accept=True)).outcome == "changed"
    assert (await believed(redis, source) or {})["KZT"] == Decimal(650)


async def test_a_first_rate_may_be_far_from_the_snapshot_but_not_nonsense(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    says.kzt = "0.00192"  # the wrong way round
    assert (await fetch_rates(redis, source, development=False)).outcome == "rejected"
    says.kzt = "900"
    assert (await fetch_rates(redis, source, development=False)).outcome == "changed"


@pytest.mark.parametrize(("asked", "spoken_of"), [(50, 50), (0, 50), (50, 0)])
async def test_rates_are_too_old_by_the_older_of_both_times(
    database: str, redis: Redis, source: RatesSource, asked: int, spoken_of: int
) -> None:
    now = datetime.now(UTC)
    quote = Quote(per_dollar=snapshot().per_dollar, source="x", as_of=now - timedelta(hours=spoken_of))
    await redis.set(RATES_KEY, msgspec.json.encode(Known(quote=quote, asked_at=now - timedelta(hours=asked))))
    assert await believed(redis, source) is None
    assert await believed(redis, replace(source, max_age_hours=51)) == quote.per_dollar


async def test_a_source_whose_own_rates_are_too_old_is_stale_and_changes_nothing(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    await fetch_rates(redis, source, development=False)
    before = await redis.get(RATES_KEY)
    says.kzt, says.as_of = "521.00", datetime.now(UTC) - timedelta(days=3)
    for accept in (False, True):
        fetched = await fetch_rates(redis, source, development=False, accept=accept)
        assert (fetched.outcome, fetched.succeeded) == ("stale", False)
        assert "WALLET_RATES_MAX_AGE_HOURS" in (fetched.reason or "")
    assert await redis.get(RATES_KEY) == before
    assert await ExchangeRate.count() == len(PAIRS)
    older = replace(source, max_age_hours=100)
    assert (await fetch_rates(redis, older, development=False)).outcome == "changed"


async def test_an_unsuccessful_answer_with_good_rates_changes_nothing(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    says.status = 500
    assert (await fetch_rates(redis, source, development=False)).outcome == "failed"
    assert await ExchangeRate.count() == 0


@pytest.mark.parametrize("snapshots", [False, True])
async def test_rates_of_the_future_are_not_fresh_and_are_asked_for_again(
    database: str, redis: Redis, source: RatesSource, snapshots: bool
) -> None:
    """They were fetched while this machine's clock was ahead."""
    for ahead, usable in ((-60, True), (59, True), (3600, False), (40 * 86_400, False)):
        moment = datetime.now(UTC) + timedelta(seconds=ahead)
        quote = snapshot() if snapshots else Quote(per_dollar=snapshot().per_dollar, source="x", as_of=moment)
        known = Known(quote=quote, asked_at=moment)
        await redis.set(RATES_KEY, msgspec.json.encode(known))
        assert (await believed(redis, source, development=snapshots) is not None) == usable
        assert known.asked_within(timedelta(minutes=55)) == usable


@pytest.mark.parametrize("development", [False, True])
async def test_rates_that_their_source_dates_in_the_future_are_rejected_and_change_nothing(
    database: str, redis: Redis, source: RatesSource, says: Source, development: bool
) -> None:
    await fetch_rates(redis, source, development=development)
    before, rows = await redis.get(RATES_KEY), await ExchangeRate.count()
    now = datetime.now(UTC)
    for as_of in (now + timedelta(minutes=2), now + timedelta(days=1), datetime(2200, 1, 1, tzinfo=UTC)):
        says.as_of = as_of
        for says.kzt in ("520.50", "521.00"):
            for accept in (False, True):
                fetched = await fetch_rates(redis, source, development=development, accept=accept)
                assert (fetched.outcome, fetched.succeeded, fetched.as_of) == (
                    "rejected",
                    False,
                    as_of.replace(microsecond=0),
                )
                assert "dated in the future" in (fetched.reason or "")
    assert (await redis.get(RATES_KEY), await ExchangeRate.count()) == (before, rows)


async def test_a_source_whose_clock_is_a_little_ahead_is_not_believed_for_longer(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    says.as_of = datetime.now(UTC) + timedelta(seconds=50)
    assert (await fetch_rates(redis, source, development=False)).outcome == "changed"
    board = RateBoard(redis, source, False)
    async with board.running():
        rates = board.current()
    assert rates
    assert rates.valid_until <= datetime.now(UTC) + timedelta(hours=48)


async def test_postgresql_knows_the_rates_when_redis_is_gone_or_forgot(
    database: str, redis: Redis, no_redis: Redis, source: RatesSource
) -> None:
    await fetch_rates(redis, source, development=False)
    assert (await believed(no_redis, source) or {})["KZT"] == Decimal("520.5")
    await redis.flushall()
    assert (await believed(redis, source) or {})["KZT"] == Decimal("520.5")


async def test_rates_are_fetched_without_redis(database: str, no_redis: Redis, source: RatesSource) -> None:
    assert (await fetch_rates(no_redis, source, development=False)).outcome == "changed"
    assert (await believed(no_redis, source) or {})["KZT"] == Decimal("520.5")


async def test_without_internet_the_snapshot_serves_in_development_and_says_so(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    says.status = 500
    cut_off = replace(source, base_url="http://127.0.0.1:9")
    fetched = await fetch_rates(redis, cut_off, development=True)
    assert (fetched.outcome, fetched.snapshot_in_use) == ("failed", True)
    board = RateBoard(redis, source, True)
    async with board.running():
        rates = board.current()
        assert rates
        assert rates.source == "snapshot of 2026-11-20"
        says.status = 200
        assert (await fetch_rates(redis, source, development=True)).outcome == "changed"
        await board._refresh()
        rates = board.current()
    assert rates
    assert rates.source == "127.0.0.1"


async def test_production_never_uses_the_snapshot(database: str, redis: Redis, source: RatesSource) -> None:
    cut_off = replace(source, base_url="http://127.0.0.1:9")
    assert (await fetch_rates(redis, cut_off, development=False)).outcome == "failed"
    assert await cached(redis) is None
    await publish_snapshot(redis, source)  # what development left behind in the same servers
    assert await believed(redis, source) is None
    await redis.flushall()
    assert await believed(redis, source) is None


async def test_a_currency_that_older_rates_lack_has_no_price_until_the_next_fetch(
    database: str, redis: Redis, source: RatesSource, says: Source
) -> None:
    """A version that knew one currency less has filled Redis and PostgreSQL: the others are as good as ever."""
    assert snapshot().per_dollar.keys() == set(CURRENCIES)
    known = {code: price for code, price in snapshot().per_dollar.items() if code != "EUR"}
    now = datetime.now(UTC)
    quote = Quote(per_dollar=known, source="x", as_of=now)
    await record(quote)
    await cache(redis, Known(quote=quote, asked_at=now))
    assert await believed(redis, source) == known
    await redis.flushall()
    assert await believed(redis, source) == known
    says.eur = "86.00"  # nothing to compare it with but the snapshot
    assert (await fetch_rates(redis, source, development=False)).outcome == "rejected"
    says.eur = "0.8600"
    assert (await fetch_rates(redis, source, development=False)).outcome == "changed"
    assert (await believed(redis, source) or {}).keys() == set(CURRENCIES)


async def test_a_snapshot_never_replaces_a_rate_that_is_still_valid(
    database: str, redis: Redis, source: RatesSource
) -> None:
    await fetch_rates(redis, source, development=True)
    assert not await publish_snapshot(redis, source)
    await redis.flushall()
    assert not await publish_snapshot(redis, source)
    assert (await believed(redis, source, development=True) or {})["KZT"] == Decimal("520.5")


async def test_the_key_is_never_told(
    database: str, redis: Redis, source: RatesSource, says: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for wrong in (source, replace(source, base_url="http://127.0.0.1:9"), replace(source, base_url="not an address")):
        says.status, says.kzt = 403, '"x"'
        fetched = await fetch_rates(redis, wrong, development=False)
        assert fetched.outcome == "failed"
        assert KEY not in str(fetched)
    assert KEY not in caplog.text
