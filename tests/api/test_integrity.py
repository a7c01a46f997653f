"""`GET /health/integrity`: what staff learn of the last audit, and strangers don't."""

from datetime import UTC, datetime, timedelta

import httpx
from litestar import Litestar

from app.staff.logins import change_login
from db.audit import AuditReport, Finding, keep_result
from tests.helpers.staff import signed_in
from tests.helpers.users import register

PATH = "/health/integrity"


def report(*findings: Finding, days_ago: float = 0) -> AuditReport:
    return AuditReport(
        ok=not findings,
        checked_at=datetime.now(UTC) - timedelta(days=days_ago),
        seconds=1.5,
        wallets=12,
        transactions=3,
        entries=6,
        findings=list(findings),
    )


async def test_strangers_and_customers_learn_nothing(client: httpx.AsyncClient, app: Litestar) -> None:
    alice = await register(client)
    before = await client.get(PATH)
    await keep_result(report(Finding("a rule", 1, ["wallet 1001"])))
    for answer in (
        await client.get(PATH),
        await alice.request("GET", PATH),
        await client.get(PATH, headers={"Cookie": "id=nonsense"}),
        before,
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json() == before.json()
    assert (await client.get(f"/api/v1{PATH}")).status_code == 404
    assert PATH not in (await client.get("/openapi.json")).text


async def test_staff_see_the_last_audit_and_how_it_ended(app: Litestar) -> None:
    async with signed_in(app, "vera", operator=False) as staff:
        unknown = await staff.client.get(PATH)
        assert (unknown.status_code, unknown.json()["status"]) == (200, "unknown")
        assert unknown.headers["Cache-Control"] == "no-store"
        finding = Finding("a rule", 2, ["wallet 1001", "wallet 1002"])
        for kept, status in (
            (report(days_ago=1.9), "ok"),
            (report(days_ago=2.1), "old"),
            (report(finding, days_ago=3), "failed"),
        ):
            await keep_result(kept)
            seen = (await staff.client.get(PATH)).json()
            assert seen["status"] == status
            assert seen["age_seconds"] // 60 == (datetime.now(UTC) - kept.checked_at) // timedelta(minutes=1)
            assert (seen["took_seconds"], seen["wallets"], seen["entries"]) == (1.5, 12, 6)
        await keep_result(report(days_ago=-1 / 1440))  # by as much may clocks differ
        assert (await staff.client.get(PATH)).json()["status"] == "ok"
        for ahead in (1 / 24, 40):
            await keep_result(report(days_ago=-ahead))
            future = (await staff.client.get(PATH)).json()
            assert (future["status"], future["age_seconds"]) == ("unknown", None)
        assert seen["findings"] == [{"rule": "a rule", "count": 2, "examples": ["wallet 1001", "wallet 1002"]}]
        await change_login("vera", active=False)
        assert (await staff.client.get(PATH)).status_code == 401


async def test_prometheus_is_told_of_it(client: httpx.AsyncClient) -> None:
    assert "wallet_audit" not in (await client.get("/metrics")).text


async def test_prometheus_is_told_when_it_failed(client: httpx.AsyncClient) -> None:
    await keep_result(report(Finding("a rule", 1, ["wallet 1001"]), days_ago=3))
    told = (await client.get("/metrics")).text
    assert "\nwallet_audit_holds 0.0\n" in told
    assert "\nwallet_audit_age_seconds 2592" in told


async def test_an_audit_of_the_future_is_not_taken_for_a_recent_one(client: httpx.AsyncClient) -> None:
    await keep_result(report(days_ago=-40))
    assert "\nwallet_audit_age_seconds +Inf\n" in (await client.get("/metrics")).text
