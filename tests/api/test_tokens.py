"""Signing in, being let in, and refresh tokens that are good for one exchange."""

import asyncio
from datetime import datetime, timedelta, tzinfo
from time import time
from typing import Self
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from litestar import Litestar

from app.auth.tokens import Tokens
from app.settings import Settings
from db.tables import RefreshToken
from tests.helpers.tokens import alive, bearer_refusal, let_pass, make_older, profile, refresh, sign_in
from tests.helpers.users import Member


async def test_tokens_say_what_they_are(client: httpx.AsyncClient, ann: Member) -> None:
    tokens = ann.tokens
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    for name, kind, seconds in (("access", "at+jwt", 900), ("refresh", "rt+jwt", 14 * 86400)):
        header = jwt.get_unverified_header(tokens[name])
        assert (header["alg"], header["typ"]) == ("HS256", kind)
        assert header["kid"]
        claims = jwt.decode(tokens[name], options={"verify_signature": False})
        session = {"sid"} if name == "access" else set()
        assert claims.keys() == {"iss", "aud", "sub", "iat", "exp", "jti"} | session
        assert (claims["sub"], claims["exp"] - claims["iat"]) == (ann.user["id"], seconds)


async def test_an_unknown_phone_and_a_wrong_password_are_answered_alike(client: httpx.AsyncClient, ann: Member) -> None:
    known = await sign_in(client, "+77011234567", "not the password")
    unknown = await sign_in(client, "+77010000000", "not the password")
    impossible = await sign_in(client, "+70000000000", "not the password")
    assert bearer_refusal(known) == bearer_refusal(unknown) == bearer_refusal(impossible) == (401, "wrong_credentials")
    assert known.json() == unknown.json()


async def test_without_a_bearer_token_nobody_is_signed_in(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    for authorization in ["", "Basic YTpi", "Bearer", "bearer ", "Token abc"]:
        with subtests.test(msg=f"{authorization!r:.60}"):
            status, code = bearer_refusal(await profile(client, authorization))
            assert (status, code) in {(401, "not_authenticated"), (401, "token_invalid")}
            assert bearer_refusal(await client.get("/users/")) == (401, "not_authenticated")


async def test_only_our_own_access_tokens_are_let_in(
    client: httpx.AsyncClient, ann: Member, app: Litestar, settings: Settings
) -> None:
    tokens: Tokens = app.state.tokens
    access = ann.tokens["access"]
    header, claims, signature = access.split(".")
    stranger = Tokens("another secret " * 4, settings.tokens).access(UUID(ann.user["id"]), uuid4())
    unsigned = jwt.encode(jwt.decode(access, options={"verify_signature": False}), "", algorithm="none")
    for token in (
        ann.tokens["refresh"],
        stranger,
        unsigned,
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}",
        "a.b.c",
        "\xff\xfe".encode("latin-1"),
        "x" * 5000,
        access + "x" * 3000,
    ):
        authorization = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
        assert bearer_refusal(await profile(client, authorization)) == (401, "token_invalid")
    assert (await profile(client, f"bearer {access}")).status_code == 200
    assert tokens.caller(f"Bearer {access}".encode()).user_id == UUID(ann.user["id"])


async def test_an_access_token_expires_even_where_it_is_remembered(
    client: httpx.AsyncClient, ann: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorization = f"Bearer {ann.tokens['access']}"
    assert (await profile(client, authorization)).status_code == 200
    monkeypatch.setattr("app.auth.tokens.time", lambda: time() + 901)
    answer = await profile(client, authorization)
    assert bearer_refusal(answer) == (401, "token_expired")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_refresh_token_is_exchanged_for_a_new_pair(client: httpx.AsyncClient, ann: Member) -> None:
    answer = await refresh(client, ann.tokens["refresh"], access=ann.tokens["access"])
    assert answer.status_code == 201
    pair = answer.json()
    assert pair.keys() == {"access", "refresh", "expires_in", "token_type"}
    assert pair["refresh"] != ann.tokens["refresh"]
    assert (await profile(client, f"Bearer {pair['access']}")).status_code == 200
    assert (await refresh(client, pair["refresh"])).status_code == 201


async def test_an_access_token_is_no_refresh_token(client: httpx.AsyncClient, ann: Member) -> None:
    assert bearer_refusal(await refresh(client, ann.tokens["access"])) == (401, "token_invalid")
    assert bearer_refusal(await refresh(client, "nonsense")) == (401, "token_invalid")


async def test_a_spent_token_seen_again_revokes_its_family(client: httpx.AsyncClient, ann: Member) -> None:
    other = (await sign_in(client, "+77011234567")).json()
    second = (await refresh(client, ann.tokens["refresh"])).json()
    await make_older(ann.tokens["refresh"], seconds=11)
    assert bearer_refusal(await refresh(client, ann.tokens["refresh"])) == (401, "token_invalid")
    assert bearer_refusal(await refresh(client, second["refresh"])) == (401, "token_invalid")
    assert (await refresh(client, other["refresh"])).status_code == 201  # another sign-in is another family


async def test_for_ten_seconds_a_client_that_lost_the_answer_may_ask_again(
    client: httpx.AsyncClient, ann: Member
) -> None:
    first = (await refresh(client, ann.tokens["refresh"])).json()
    await make_older(ann.tokens["refresh"], seconds=8)
    again = await refresh(client, ann.tokens["refresh"])
    assert again.status_code == 201
    families = await RefreshToken.select(RefreshToken.family).distinct()
    assert len(families) == 1
    assert (await refresh(client, first["refresh"])).status_code == 201


@pytest.mark.parametrize("ahead", [0, 1])
async def test_of_two_pairs_for_one_token_the_one_that_is_refreshed_first_lives_on(
    client: httpx.AsyncClient, ann: Member, ahead: int
) -> None:
    pairs = [(await refresh(client, ann.tokens["refresh"])).json() for _ in range(2)]
    await let_pass(seconds=60)  # neither is refreshed until long after the grace
    survivor = (await refresh(client, pairs[ahead]["refresh"])).json()
    await let_pass(seconds=11)
    assert await alive(client, survivor)
    # Whoever holds the other one is somebody else: nobody can tell which of the two is the thief.
    assert bearer_refusal(await refresh(client, pairs[1 - ahead]["refresh"])) == (401, "token_invalid")
    assert bearer_refusal(await refresh(client, survivor["refresh"])) == (401, "token_invalid")
    assert not await alive(client, survivor)


async def test_a_client_that_loses_every_first_answer_stays_signed_in(client: httpx.AsyncClient, ann: Member) -> None:
    token = ann.tokens["refresh"]
    for _ in range(5):
        await refresh(client, token)
        await let_pass(seconds=8)
        token = (await refresh(client, token)).json()["refresh"]
        await let_pass(seconds=900)
    assert (await refresh(client, token)).status_code == 201


@pytest.mark.parametrize("ahead", [-60, -30, 0, 30, 60])
async def test_the_grace_is_the_same_on_hosts_whose_clocks_differ(
    client: httpx.AsyncClient, ann: Member, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The token is spent on a host whose clock is off by so much, and comes again to another one."""

    class Clock(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> Self:
            return super().now(zone) + timedelta(seconds=ahead)

    for seconds_later, status in ((8, 201), (11, 401)):
        with monkeypatch.context() as patch:
            patch.setattr("app.auth.refresh.datetime", Clock)
            patch.setattr("app.auth.tokens.time", lambda: time() + ahead)
            tokens = (await sign_in(client, "+77011234567")).json()
            assert (await refresh(client, tokens["refresh"])).status_code == 201
        await let_pass(seconds=seconds_later)
        assert (await refresh(client, tokens["refresh"])).status_code == status
    (row,) = await RefreshToken.raw("SELECT max(abs(extract(epoch FROM now() - issued_at))) AS off FROM refresh_token")
    assert row["off"] < 30, "a session is dated by PostgreSQL's clock"


async def test_a_token_that_was_spent_in_the_future_is_not_good_until_then(
    client: httpx.AsyncClient, ann: Member
) -> None:
    await refresh(client, ann.tokens["refresh"])
    await let_pass(seconds=-40 * 86_400)  # PostgreSQL's clock was ahead then
    assert bearer_refusal(await refresh(client, ann.tokens["refresh"])) == (401, "token_invalid")


async def test_tabs_that_share_a_store_stay_signed_in_however_they_refresh(
    client: httpx.AsyncClient, ann: Member
) -> None:
    token = ann.tokens["refresh"]
    for last in (0, 2, 1, 0):
        answers = await asyncio.gather(*(refresh(client, token) for _ in range(3)))
        assert {answer.status_code for answer in answers} == {201}
        token = answers[last].json()["refresh"]  # whichever tab wrote last
        await let_pass(seconds=900)
    assert (await refresh(client, token)).status_code == 201


async def test_siblings_that_are_refreshed_within_the_grace_are_taken_for_tabs(
    client: httpx.AsyncClient, ann: Member
) -> None:
    pairs = [(await refresh(client, ann.tokens["refresh"])).json() for _ in range(2)]
    await let_pass(seconds=900)
    answers = await asyncio.gather(*(refresh(client, pair["refresh"]) for pair in pairs))
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_a_rotation_can_not_slip_past_a_revocation(client: httpx.AsyncClient, ann: Member) -> None:
    for _ in range(5):
        first = (await sign_in(client, "+77011234567")).json()["refresh"]
        second = (await refresh(client, first)).json()["refresh"]
        await make_older(first, seconds=60)
        answers = await asyncio.gather(*(refresh(client, token) for token in (second, first, second, first)))
        survivors = [answer.json()["refresh"] for answer in answers if answer.status_code == 201]
        for token in survivors:
            assert (await refresh(client, token)).status_code == 401


async def test_an_expired_refresh_token(
    client: httpx.AsyncClient, ann: Member, app: Litestar, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("app.auth.tokens.time", lambda: time() - 15 * 86400)
        old = app.state.tokens.refresh(UUID(ann.user["id"]), uuid4())
    assert bearer_refusal(await refresh(client, old)) == (401, "token_expired")
    unknown = app.state.tokens.refresh(UUID(ann.user["id"]), uuid4())
    assert bearer_refusal(await refresh(client, unknown)) == (401, "token_invalid")


async def test_refresh_tokens_are_not_kept_themselves(client: httpx.AsyncClient, ann: Member) -> None:
    rows = await RefreshToken.select(RefreshToken.token_hash)
    assert [len(row["token_hash"]) for row in rows] == [64]


async def test_what_may_be_asked_of_an_address_is_told_to_whoever_asks(client: httpx.AsyncClient) -> None:
    operations = (await client.get("/docs/openapi.json")).json()["paths"]
    for path, methods in operations.items():
        answer = await client.options(path.format(id=uuid4()))
        if path.startswith("/users/wallets"):
            assert bearer_refusal(answer) == (401, "not_authenticated"), path
        else:
            allowed = {*map(str.upper, methods), "OPTIONS"}
            assert (answer.status_code, {*answer.headers["Allow"].split(", ")}) == (204, allowed), path
