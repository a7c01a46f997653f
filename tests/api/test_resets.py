"""A forgotten password: alike for everybody who asks, and useful only to who reads the mail."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from actors.orders import StaffMember
from app.people.blocking import block, unblock
from db.tables import Message, User
from tests.helpers.tokens import alive, refresh, sign_in
from tests.helpers.users import PASSWORD, CodeOf, Join, Json, Member, start_password, wrong

PHONE, NEW = "+77011234567", "quite another long password"


async def start(client: httpx.AsyncClient, **who: Any) -> httpx.Response:
    return await client.post("/users/password/reset/", json=who)


async def finish(client: httpx.AsyncClient, session: Json, code: str, new: str = NEW) -> httpx.Response:
    body = {"session_id": session["session_id"], "code": code, "new_password": new}
    return await client.post("/users/password/reset/verify/", json=body)


@pytest.mark.parametrize("who", [{"phone_number": "8 (701) 123-45-67"}, {"email": "Ann@example.com"}])
async def test_a_code_sets_a_new_password_and_ends_every_session(
    client: httpx.AsyncClient, ann: Member, code_of: CodeOf, who: Json
) -> None:
    session = (await start(client, **who)).json()
    sent = await Message.select().where(Message.template == "reset_code").first()
    assert sent is not None
    assert sent["recipient"] == "ann@example.com"
    answer = await finish(client, session, await code_of(session))
    assert (answer.status_code, answer.json()) == (201, ann.user)
    assert await Message.count().where(Message.template == "password_changed") == 1
    assert not await alive(client, ann.tokens)
    assert (await refresh(client, ann.tokens["refresh"])).status_code == 401
    assert [(await sign_in(client, PHONE, each)).status_code for each in (PASSWORD, NEW)] == [401, 201]


async def test_known_unknown_and_blocked_are_answered_alike(client: httpx.AsyncClient, ann: Member, join: Join) -> None:
    await join(email="bob@example.com", phone_number="+77010000001")
    await block("bob@example.com", reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
    await Message.delete(force=True)
    seen = set()
    for name in ("ann", "bob", "nobody"):
        answer = await start(client, email=f"{name}@example.com")
        headers = {key for key in answer.headers if key != "x-request-id"}
        seen.add((answer.status_code, tuple(answer.json()), answer.json()["expires_in"], tuple(sorted(headers))))
    assert len(seen) == 1, seen
    rows = await Message.select(Message.recipient)
    assert [row["recipient"] for row in rows] == ["ann@example.com"]


async def test_nobody_redeems_what_was_started_for_nobody(
    client: httpx.AsyncClient, ann: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.people.codes.secrets.randbelow", lambda _: 482913)  # even were it guessed
    await block(PHONE, reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
    for phone_number in ("+77010000009", PHONE):
        session = (await start(client, phone_number=phone_number)).json()
        await unblock(PHONE, reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
        assert (await finish(client, session, "482913")).json()["code"] == "invalid_code"
        await block(PHONE, reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
    unknown = {"session_id": str(uuid4())}
    assert (await finish(client, unknown, "482913")).json()["code"] == "invalid_code"


async def test_exactly_one_of_phone_and_email_is_given(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    for who in [{}, {"phone_number": PHONE, "email": "ann@example.com"}, {"email": "no address"}]:
        with subtests.test(msg=f"{who!r:.60}"):
            answer = await start(client, **who)
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
            assert len(answer.json()["errors"]) == 1


async def test_a_refused_password_spends_nothing(client: httpx.AsyncClient, ann: Member, code_of: CodeOf) -> None:
    session = (await start(client, phone_number=PHONE)).json()
    code = await code_of(session)
    for new in ("Password123", "ann@example.com", "87011234567", "+7 701 123 45 67"):
        answer = await finish(client, session, code, new)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed"), new
        assert [error["field"] for error in answer.json()["errors"]] == ["new_password"]
    # Whose address it is, is not told to who does not hold the code.
    assert (await finish(client, session, wrong(code), "ann@example.com")).json()["code"] == "invalid_code"
    assert (await finish(client, session, code)).status_code == 201


async def test_of_a_hundred_parallel_guesses_five_are_compared(
    client: httpx.AsyncClient, ann: Member, code_of: CodeOf, redis_url: str
) -> None:
    session = (await start(client, phone_number=PHONE)).json()
    code = await code_of(session)
    with Redis.from_url(redis_url) as redis:
        for guess in range(4):
            await finish(client, session, wrong(code))
            assert redis.hget(f"wallet:code:reset:{session['session_id']}", "tries") == str(guess + 1).encode()
        answers = await asyncio.gather(*(finish(client, session, wrong(code)) for _ in range(96)))
        assert {answer.json()["code"] for answer in answers} == {"invalid_code"}
        assert not redis.keys("wallet:code:*")
    assert (await finish(client, session, code)).json()["code"] == "invalid_code"


async def test_a_code_is_good_for_what_it_was_sent_for_only(
    client: httpx.AsyncClient, ann: Member, code_of: CodeOf
) -> None:
    reset = (await start(client, phone_number=PHONE)).json()
    change = (await start_password(client, ann, NEW)).json()
    fresh = {"email": "eve@example.com", "phone_number": "+77010000003", "password": PASSWORD}
    join = (await client.post("/users/create/", json=fresh)).json()
    codes = {
        id(session): {"session_id": session["session_id"], "code": await code_of(session)}
        for session in (reset, change, join)
    }
    for session in (reset, change):
        assert (await client.post("/users/verify/", json=codes[id(session)])).json()["code"] == "invalid_code"
    for session in (reset, join):
        answer = await client.patch("/users/password/verify/", json=codes[id(session)], headers=ann.headers)
        assert answer.json()["code"] == "invalid_code"
    for session in (change, join):
        assert (await finish(client, session, codes[id(session)]["code"])).json()["code"] == "invalid_code"
    assert (await finish(client, reset, codes[id(reset)]["code"])).status_code == 201


async def test_who_is_blocked_meanwhile_does_not_get_in(
    client: httpx.AsyncClient, ann: Member, code_of: CodeOf
) -> None:
    session = (await start(client, phone_number=PHONE)).json()
    await block(PHONE, reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
    before = await User.select(User.password_hash).first()
    assert (await finish(client, session, await code_of(session))).json()["code"] == "invalid_code"
    assert await User.select(User.password_hash).first() == before
