"""Fees that nobody charges: readiness and the metrics say so, and a worker that starts charges them first."""

from pathlib import Path

import httpx

from app.settings import Settings
from tests.helpers.fees import make_due
from tests.helpers.postgres import connected
from tests.helpers.users import register
from tests.helpers.waiting import until
from tests.helpers.wallet_processes import wallet


async def test_overdue_fees_degrade_until_a_worker_starts_and_charges_them(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    payer = await (await register(client)).open_wallet(holding="1000")
    poor = await (await register(client)).open_wallet(holding="1")
    for each in (payer, poor):
        await make_due(each, days_ago=0.005)  # seven minutes: the next sweep has not come yet
    assert await fees(client) == ("ok", 0.0, 0.0)
    await make_due(payer, days_ago=2)
    await make_due(poor, days_ago=1)
    status, wallets, seconds = await fees(client)
    assert (status, wallets) == ("degraded", 2)
    assert 2 * 86_400 <= seconds < 2 * 86_400 + 3_600

    addresses = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    with wallet("worker", folder=tmp_path, **addresses):
        await until(lambda: "Fees: " in (tmp_path / "output").read_text())
    assert await payer.balance() == 800
    # A blocked wallet owes its fee for as long as it takes, and nobody can do anything about it.
    assert await fees(client) == ("ok", 0.0, 0.0)


async def test_a_worker_that_starts_while_the_wallets_are_locked_says_so_and_goes_on_with_its_first_work(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    payer = await (await register(client)).open_wallet(holding="1000")
    await make_due(payer, days_ago=2)
    addresses = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    async with connected(settings.database_url) as other, other.transaction():
        await other.execute('LOCK TABLE "wallet" IN EXCLUSIVE MODE')  # they can be read
        with wallet("worker", folder=tmp_path, **addresses):
            await until(lambda: "Fees could not be charged: PostgreSQL" in (tmp_path / "output").read_text())
            await until(lambda: "Exchange rates" in (tmp_path / "output").read_text())


async def fees(client: httpx.AsyncClient) -> tuple[str, float, float]:
    """What readiness says, and the two metrics."""
    status = (await client.get("/health/ready")).json()["checks"]["fees"]["status"]
    assert isinstance(status, str)
    until_fresh = dict[str, float]()

    async def agree() -> bool:
        for line in (await client.get("/metrics")).text.splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith(("wallet_fees_overdue", 'wallet_part_up{part="fees"}')):
                until_fresh[name] = float(value)
        return until_fresh['wallet_part_up{part="fees"}'] == float(status == "ok")

    await until(agree)  # the last answer is given again for a second
    return status, until_fresh["wallet_fees_overdue"], until_fresh["wallet_fees_overdue_seconds"]
