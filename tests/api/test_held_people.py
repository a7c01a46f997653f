"""Rows and tables that somebody has locked, and more requests that need them than there are connections."""

import asyncio
from functools import partial
from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace

from app.settings import Settings
from app.telemetry import health
from tests.helpers.patience import PATIENT_POOL
from tests.helpers.postgres import connected
from tests.helpers.users import Member, OpenWallet
from tests.helpers.waiting import until

_WAIT = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_MANY = 30


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, pool=replace(PATIENT_POOL, min_size=1, max_size=2))


async def test_one_person_whose_row_is_held_takes_the_connections_of_nobody_else(
    client: httpx.AsyncClient, settings: Settings, ann: Member, ben: Member
) -> None:
    wallet = await ann.open_wallet()
    refresh = {"refresh": ann.tokens["refresh"]}
    changes = [
        ("PATCH", "/users/update/", {"first_name": "Ann"}),
        ("POST", "/users/token/refresh/", refresh),
        ("POST", "/users/token/revoke/", refresh),
        ("DELETE", "/users/sessions/", None),
        ("POST", "/users/wallets/create/", {"amount_currency": "EUR"}),
        ("PATCH", f"/users/wallets/{wallet.id}/update/", {"name": "Other"}),
    ]
    async with connected(settings.database_url) as other:
        async with other.transaction():
            await other.execute('SELECT FROM "user" WHERE "id" = $1 FOR UPDATE', UUID(ann.user["id"]))
            await other.execute('SELECT FROM "wallet" WHERE "id" = $1 FOR UPDATE', wallet.id)
            held = [
                asyncio.create_task(ann.request(method, path, json=body))
                for method, path, body in changes * (_MANY // len(changes))
            ]
            await until(partial(other.fetchval, _WAIT))
            assert (await ben.request("GET", "/users/")).status_code == 200
            await pays(ben)
            assert not any(each.done() for each in held)
        assert all(answer.status_code < 500 for answer in await asyncio.gather(*held))


async def test_payments_and_readiness_wait_for_nobody_who_waits_for_a_table(
    client: httpx.AsyncClient, settings: Settings, ann: Member, ben: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    purse = await ben.open_wallet(holding="10")
    async with connected(settings.database_url) as other:
        async with other.transaction():
            await other.execute('LOCK TABLE "refresh_token"')
            held = [asyncio.create_task(ann.request("GET", "/users/sessions/")) for _ in range(_MANY)]
            await until(partial(other.fetchval, _WAIT))
            await pays(ben, purse)
            monkeypatch.setattr(health, "PROBE_SECONDS", 0.5)
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["database"]["status"]) == (200, "ok")
            assert not any(each.done() for each in held)
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}


async def pays(person: Member, purse: OpenWallet | None = None) -> None:
    """Twenty payments at once, all of which are made."""
    wallet = purse or await person.open_wallet(holding="10")
    answers = await asyncio.gather(*(wallet.deposit("1") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
