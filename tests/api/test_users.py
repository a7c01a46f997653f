"""Registration, codes, passwords and profiles, as people meet them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import httpx
import pytest
from redis import Redis

from actors.refusals import DatabaseUnavailable
from app.people import registration
from db.tables import Message, User
from db.transaction import CommitInDoubt, transaction
from tests.helpers.users import ANN, PASSWORD, CodeOf, Json, Member, start_password, wrong


async def start(client: httpx.AsyncClient, **changes: str) -> Json:
    answer = await client.post("/users/create/", json=ANN | changes)
    assert answer.status_code == 201, answer.text
    session: Json = answer.json()
    return session


async def verify(client: httpx.AsyncClient, session: Json, code: str) -> httpx.Response:
    return await client.post("/users/verify/", json={"session_id": session["session_id"], "code": code})


async def test_a_code_turns_a_registration_into_a_user(client: httpx.AsyncClient, code_of: CodeOf) -> None:
    session = await start(client, email="Ann@Example.COM", phone_number="8 (701) 123-45-67")
    assert session == {"session_id": session["session_id"], "expires_in": 300, "channels": ["email"]}
    answer = await verify(client, session, await code_of(session))
    assert answer.status_code == 201
    user = answer.json()
    assert user.pop("id")
    assert user == {
        "email": "ann@example.com",
        "phone_number": "+77011234567",
        "first_name": "",
        "last_name": "",
        "profile_image": None,
        "wallets": [],
    }
    assert await Message.exists().where(Message.template == "welcome")


async def test_a_code_is_used_once(client: httpx.AsyncClient, code_of: CodeOf) -> None:
    session = await start(client)
    code = await code_of(session)
    answers = await asyncio.gather(*(verify(client, session, code) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 9
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} == {"invalid_code"}
    assert await User.count() == 1


async def test_the_fifth_wrong_guess_spends_the_code(client: httpx.AsyncClient, code_of: CodeOf) -> None:
    session = await start(client)
    code = await code_of(session)
    for _ in range(5):
        assert (await verify(client, session, wrong(code))).json()["code"] == "invalid_code"
    assert (await verify(client, session, code)).json()["code"] == "invalid_code"


async def test_the_fifth_guess_may_still_be_right(client: httpx.AsyncClient, code_of: CodeOf) -> None:
    session = await start(client)
    code = await code_of(session)
    for _ in range(4):
        await verify(client, session, wrong(code))
    assert (await verify(client, session, code)).status_code == 201


async def test_of_a_hundred_parallel_guesses_five_are_compared(
    client: httpx.AsyncClient, code_of: CodeOf, redis_url: str
) -> None:
    session = await start(client)
    code = await code_of(session)
    with Redis.from_url(redis_url) as redis:
        answers = await asyncio.gather(*(verify(client, session, wrong(code)) for _ in range(100)))
        assert {answer.status_code for answer in answers} == {400}
        assert not redis.keys("wallet:code:*")
    assert (await verify(client, session, code)).status_code == 400


async def test_neither_the_code_nor_the_password_is_kept_in_redis(
    client: httpx.AsyncClient, code_of: CodeOf, redis_url: str
) -> None:
    session = await start(client)
    code = await code_of(session)
    with Redis.from_url(redis_url) as redis:
        kept: Any = redis.hgetall(f"wallet:code:registration:{session['session_id']}")
    text = b" ".join(kept.values()).decode()
    assert code not in text.replace(session["session_id"], "")
    assert PASSWORD not in text
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in text


async def test_the_first_of_two_registrations_to_be_confirmed_wins(client: httpx.AsyncClient, code_of: CodeOf) -> None:
    first, second = await start(client), await start(client)
    assert (await verify(client, second, await code_of(second))).status_code == 201
    late = await verify(client, first, await code_of(first))
    assert (late.status_code, late.json()["code"]) == (400, "user_exists")
    # An answer was given, so the code is spent.
    assert (await verify(client, first, await code_of(first))).json()["code"] == "invalid_code"


async def test_a_code_survives_a_database_that_fails(
    client: httpx.AsyncClient, code_of: CodeOf, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await start(client)
    code = await code_of(session)

    async def fail(_: Any) -> None:
        raise ConnectionResetError

    key = f"wallet:code:registration:{session['session_id']}"
    with Redis.from_url(redis_url) as redis:
        redis.pexpire(key, 100_000)
        with monkeypatch.context() as patch:
            patch.setattr(registration, "make_user", fail)
            answer = await verify(client, session, code)
        assert (answer.status_code, answer.json()["code"]) == (503, DatabaseUnavailable.code)
        assert answer.headers["retry-after"]
        assert 0 < redis.pttl(key) <= 100_000, "no longer a life than it had"
        assert redis.hget(key, "tries") == b"0"
    assert (await verify(client, session, code)).status_code == 201


async def test_confirming_again_after_a_commit_in_doubt_makes_no_second_user(
    client: httpx.AsyncClient, code_of: CodeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def lost_in_the_end() -> AsyncIterator[None]:
        async with transaction():
            yield
        raise CommitInDoubt

    session = await start(client)
    code = await code_of(session)
    with monkeypatch.context() as patch:
        patch.setattr(registration, "transaction", lost_in_the_end)
        assert (await verify(client, session, code)).status_code == 503
    again = await verify(client, session, code)
    assert again.status_code == 201
    assert [str(row["id"]) for row in await User.select(User.id)] == [again.json()["id"]]
    assert await Message.count().where(Message.template == "welcome") == 1


async def test_what_is_not_valid_names_its_field(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    for field, value in [
        ("email", "not an address"),
        ("email", "ann@localhost"),
        ("email", "a\u0000nn@example.com"),
        ("email", "a" * 300 + "@example.com"),
        ("email", None),
        ("phone_number", "12"),
        ("phone_number", "+7701123456" * 20),
        ("phone_number", 77011234567),
        ("password", "short"),
        ("password", "x" * 129),
        ("password", "correct\u0000horse"),
        ("password", ["correct horse battery staple"]),
    ]:
        with subtests.test(msg=f"{field!r:.60} {value!r:.60}"):
            answer = await client.post("/users/create/", json=ANN | {field: value})
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
            assert answer.headers["content-type"].startswith("application/problem+json")
            assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_bodies_that_are_no_json_are_refused(subtests: pytest.Subtests, client: httpx.AsyncClient) -> None:
    for body, path in product(
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            b'{"email": "\\ud800@example.com"}',
            b"[" * 60_000,
            b'{"email": 1e999}',
        ],
        ["create", "verify", "token/create", "token/refresh"],
    ):
        with subtests.test(msg=f"{body!r:.60} {path!r:.60}"):
            headers = {"content-type": "application/json"}
            answer = await client.post(f"/users/{path}/", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_a_changed_password_signs_everyone_out(client: httpx.AsyncClient, ann: Member, code_of: CodeOf) -> None:
    session = (await start_password(client, ann, "another good password")).json()
    body = {"session_id": session["session_id"], "code": await code_of(session)}
    answer = await client.patch("/users/password/verify/", json=body, headers=ann.headers)
    assert (answer.status_code, answer.json()) == (200, ann.user)
    assert await Message.exists().where(Message.template == "password_changed")
    refreshed = await client.post("/users/token/refresh/", json={"refresh": ann.tokens["refresh"]})
    assert (refreshed.status_code, refreshed.json()["code"]) == (401, "token_invalid")
    for password, status in ((PASSWORD, 401), ("another good password", 201)):
        credentials = {"phone_number": ann.user["phone_number"], "password": password}
        assert (await client.post("/users/token/create/", json=credentials)).status_code == status


async def test_a_change_of_password_wants_the_current_one(client: httpx.AsyncClient, ann: Member) -> None:
    answer = await start_password(client, ann, "another good password", current="not my password")
    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_password")
    assert not await Message.exists().where(Message.template == "password_code")


async def test_somebody_elses_session_is_no_session(
    client: httpx.AsyncClient, ann: Member, ben: Member, code_of: CodeOf
) -> None:
    session = (await start_password(client, ann, "another good password")).json()
    body = {"session_id": session["session_id"], "code": await code_of(session)}
    # However often he tries, it costs Ann none of her tries.
    for _ in range(6):
        answer = await client.patch("/users/password/verify/", json=body, headers=ben.headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_code")
    assert (await client.post("/users/verify/", json=body)).json()["code"] == "invalid_code"
    assert (await client.patch("/users/password/verify/", json=body, headers=ann.headers)).status_code == 200


async def test_names_change_and_the_rest_stays(client: httpx.AsyncClient, ann: Member) -> None:
    answer = await client.patch("/users/update/", json={"first_name": "Änn"}, headers=ann.headers)
    assert (answer.status_code, answer.json()) == (200, ann.user | {"first_name": "Änn"})
    form = {"last_name": (None, "Bee")}
    answer = await client.patch("/users/update/", files=form, headers=ann.headers)
    expected = ann.user | {"first_name": "Änn", "last_name": "Bee"}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert (await client.get("/users/", headers=ann.headers)).json() == expected


async def test_names_without_control_characters_and_not_too_long(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member
) -> None:
    for name in ["x" * 151, "a\u0000b", "line\n", "a\u0085b", None, 5]:
        with subtests.test(msg=f"{name!r:.60}"):
            answer = await client.patch("/users/update/", json={"first_name": name}, headers=ann.headers)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "first_name")


async def test_names_may_not_be_as_large_as_an_image(client: httpx.AsyncClient, ann: Member) -> None:
    for size, status in ((60_000, 400), (70_000, 413), (5_000_000, 413)):
        body = b'{"first_name": "' + b"x" * size + b'"}'
        headers = {**ann.headers, "Content-Type": "application/json"}
        answer = await client.patch("/users/update/", content=body, headers=headers)
        assert answer.status_code == status, size


async def test_a_gone_person_is_signed_out(client: httpx.AsyncClient, ann: Member) -> None:
    await User.delete().where(User.id == ann.user["id"])
    for method, path, body in (("GET", "/users/", None), ("PATCH", "/users/update/", {"first_name": "Ann"})):
        answer = await client.request(method, path, json=body, headers=ann.headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
