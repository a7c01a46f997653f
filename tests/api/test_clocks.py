"""A host whose clock is wrong: whatever is kept has PostgreSQL's time, and what has it in the future is not fresh."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import httpx
import pytest

from app.settings import Settings
from db.tables import Wallet
from tests.helpers.fees import FeeDay
from tests.helpers.prices import publish_rates
from tests.helpers.users import register

# Whoever asks for the time there gets this host's; several once did.
_ASKING = ("actors.engine.loading", "app.auth.refresh", "app.wallets.opening", "tasks.fees")


@pytest.mark.parametrize("ahead", [timedelta(days=31), timedelta(seconds=59), timedelta(days=-31)])
async def test_a_hosts_clock_dates_no_payment_and_makes_no_fee_due(
    client: httpx.AsyncClient, fees: FeeDay, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> Self:
            return super().now(zone) + ahead

    for module in _ASKING:
        monkeypatch.setattr(f"{module}.datetime", Clock, raising=False)
    began = datetime.now(UTC)
    alice, bob = await register(client), await register(client)
    wallet, other = await alice.open_wallet(holding="1000.00"), await bob.open_wallet()
    assert (await wallet.send("1.00", other)).status_code == 201
    assert (await fees.run()).due == 0
    ended = datetime.now(UTC)
    history = await wallet.history()
    assert len(history) == 2
    for moment in [each["created_at"] for each in history] + [(await wallet.shown())["created_at"]]:
        assert began - timedelta(seconds=1) <= datetime.fromisoformat(moment) <= ended + timedelta(seconds=1)
    (row,) = await Wallet.select(Wallet.fee_due_at).where(Wallet.id == wallet.id)
    assert abs(row["fee_due_at"] - ended - timedelta(days=30)) < timedelta(minutes=1)


class TestRatesOfTheFuture:
    """The source says of its prices that they are tomorrow's."""

    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        await publish_rates(settings.redis_url, ahead=timedelta(days=1))
        return settings

    async def test_they_are_not_ok(self, client: httpx.AsyncClient) -> None:
        ready = (await client.get("/health/ready")).json()
        assert ready["checks"]["rates"]["status"] == "degraded"
        assert "in the future" in ready["checks"]["rates"]["detail"]
        assert "\nwallet_rate_age_seconds +Inf\n" in (await client.get("/metrics")).text
