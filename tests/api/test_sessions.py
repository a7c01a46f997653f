"""Sessions: listed, ended, and refused from then on wherever their tokens are shown."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from time import time
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from litestar import Litestar

from app.main import create_app
from app.settings import Settings
from db.engine import engine
from db.tables import RefreshToken
from tests.helpers.tokens import alive, bearer_refusal, make_older, refresh, sign_in
from tests.helpers.users import Json, Member

PHONE = "+77011234567"


def bearer(tokens: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access']}"}


async def sign_out(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/users/token/revoke/", json={"refresh": token})


@pytest.fixture
def other(app: Litestar, settings: Settings) -> Litestar:
    """A second instance, as another process has it: nothing is shared but the database."""
    return create_app(settings)


@pytest.fixture
async def elsewhere(other: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(cast(Any, other), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as client:
        yield client


async def test_sessions_are_listed_with_the_newest_first(client: httpx.AsyncClient, ann: Member, ben: Member) -> None:
    agent = "Fire\tfox " + "x" * 300
    body = {"phone_number": PHONE, "password": ann.password}
    second = (await client.post("/users/token/create/", json=body, headers={"User-Agent": agent})).json()
    second = (await refresh(client, second["refresh"])).json()
    for path in ("/users/sessions/", "/api/v1/users/sessions"):
        newest, oldest = (await client.get(path, headers=bearer(second))).json()
        keys = ["id", "signed_in_at", "last_used_at", "expires_at", "user_agent", "current"]
        assert list(newest) == list(oldest) == keys
        assert (newest["current"], oldest["current"]) == (True, False)
        assert newest["user_agent"] == ("Firefox " + "x" * 300)[:200]
        assert oldest["signed_in_at"] < newest["signed_in_at"] < newest["last_used_at"] < newest["expires_at"]
    assert [each["current"] for each in (await client.get("/users/sessions/", headers=ann.headers)).json()] == [
        False,
        True,
    ]


async def test_whatever_is_revoked_is_refused_here_at_once_and_elsewhere_after_a_look(
    client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, other: Litestar, ann: Member
) -> None:
    first, second, third = [(await sign_in(client, PHONE)).json() for _ in range(3)]
    for tokens in (first, second, third):
        assert await alive(elsewhere, tokens)  # so it remembers them
    assert (await sign_out(client, first["refresh"])).status_code == 204
    session_id = (await client.get("/users/sessions/", headers=bearer(second))).json()[1]["id"]
    assert (await client.delete(f"/users/sessions/{session_id}/", headers=bearer(third))).status_code == 204
    for tokens, lives in ((first, False), (second, False), (third, True)):
        assert await alive(client, tokens) == lives
        assert await alive(elsewhere, tokens)
    await other.state.revocations.catch_up()
    for tokens, lives in ((first, False), (second, False), (third, True)):
        assert await alive(elsewhere, tokens) == lives
    # One that starts later looks before it lets anybody in.
    assert (await client.delete("/users/sessions/", headers=bearer(third))).status_code == 204
    assert not await alive(client, ann.tokens)
    await other.state.revocations.catch_up()
    assert not await alive(elsewhere, ann.tokens)
    assert await alive(elsewhere, third)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=40), timedelta(hours=-1), timedelta(days=-40)])
async def test_a_jump_of_the_databases_clock_hides_no_revocation(
    client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, other: Litestar, ann: Member, jump: timedelta
) -> None:
    """What was revoked after the last look and before the clock jumped is as old, or as young, as the jump is far."""
    await other.state.revocations.catch_up()
    assert await alive(elsewhere, ann.tokens)
    await sign_out(client, ann.tokens["refresh"])
    other.state.revocations._database_time -= jump
    if jump > timedelta(0):
        await RefreshToken.raw("UPDATE refresh_token SET revoked_at = revoked_at - {}::interval", jump)
    await other.state.revocations.catch_up()
    assert not await alive(elsewhere, ann.tokens)


async def test_a_look_without_a_database_keeps_what_is_known(
    client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, other: Litestar, ann: Member, settings: Settings
) -> None:
    await sign_out(client, ann.tokens["refresh"])
    second = (await sign_in(client, PHONE)).json()
    await other.state.revocations.catch_up()
    pool = engine().pool
    engine().pool, engine().config["dsn"] = None, "postgresql://127.0.0.1:1/none"
    try:
        await other.state.revocations.catch_up()
    finally:
        engine().pool, engine().config["dsn"] = pool, settings.database_url
    assert not await alive(elsewhere, ann.tokens)
    await sign_out(client, second["refresh"])
    await other.state.revocations.catch_up()
    assert not await alive(elsewhere, second)


async def test_sign_out_answers_alike_whatever_the_token_is(
    client: httpx.AsyncClient, ann: Member, app: Litestar
) -> None:
    second = (await refresh(client, ann.tokens["refresh"])).json()
    unknown = app.state.tokens.refresh(UUID(ann.user["id"]), uuid4())
    answers = [
        await sign_out(client, token)
        for token in ("nonsense", unknown, second["access"], ann.tokens["refresh"], ann.tokens["refresh"])
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(204, b"")}
    assert not await alive(client, second)  # the fourth was spent, and its session has ended all the same
    assert bearer_refusal(await refresh(client, second["refresh"])) == (401, "token_invalid")


async def test_an_expired_refresh_token_still_signs_out(
    client: httpx.AsyncClient, ann: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("app.auth.tokens.time", lambda: time() - 15 * 86400)
        old = (await sign_in(client, PHONE)).json()
    assert bearer_refusal(await refresh(client, old["refresh"])) == (401, "token_expired")
    assert (await sign_out(client, old["refresh"])).status_code == 204
    assert await RefreshToken.count().where(RefreshToken.revoked_at.is_not_null()) == 1


async def test_nobody_ends_somebody_elses_session(client: httpx.AsyncClient, ann: Member, ben: Member) -> None:
    ((session,)) = (await client.get("/users/sessions/", headers=ann.headers)).json()
    for id in (session["id"], uuid4()):
        answer = await client.delete(f"/users/sessions/{id}/", headers=ben.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert (await client.delete("/users/sessions/", headers=ben.headers)).status_code == 204
    assert await alive(client, ann.tokens)


async def test_a_spent_token_seen_again_ends_the_access_tokens_too(client: httpx.AsyncClient, ann: Member) -> None:
    second = (await refresh(client, ann.tokens["refresh"])).json()
    assert await alive(client, second)
    await make_older(ann.tokens["refresh"], seconds=11)
    assert bearer_refusal(await refresh(client, ann.tokens["refresh"])) == (401, "token_invalid")
    assert not await alive(client, second)


async def test_no_rotation_slips_past_a_sign_out(client: httpx.AsyncClient, ann: Member) -> None:
    for _ in range(10):
        tokens = (await sign_in(client, PHONE)).json()
        answers = await asyncio.gather(
            refresh(client, tokens["refresh"]), sign_out(client, tokens["refresh"]), refresh(client, tokens["refresh"])
        )
        for answer in (*answers[::2], await refresh(client, tokens["refresh"])):
            if answer.status_code == 201:
                assert not await alive(client, answer.json())
                assert (await refresh(client, answer.json()["refresh"])).status_code == 401
        assert not await alive(client, tokens)


async def test_what_may_be_done_with_sessions_is_told_whole(client: httpx.AsyncClient) -> None:
    for path in ("/users/sessions/", "/api/v1/users/sessions"):
        answer = await client.options(path)
        assert (answer.status_code, answer.headers["Allow"]) == (204, "DELETE, GET, OPTIONS")
