"""What becomes a password, and how its hash grows stronger unnoticed."""

import asyncio
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from actors.refusals import Overloaded
from app.people.passwords.hashing import Passwords, is_outdated
from db.tables import Message, User
from tests.helpers.tokens import profile, sign_in
from tests.helpers.users import ANN, Member, start_password

PHONE = ANN["phone_number"]
EASY = ["password", "PASSWORD123", "ann@example.com", "Ann@Example.com", "+77011234567", "8 (701) 123-45-67"]
WEAK = PasswordHasher(memory_cost=8_192, time_cost=1, parallelism=1)


async def hash_of(ann: Member) -> str:
    row: Any = await User.select(User.password_hash).where(User.id == ann.user["id"]).first()
    kept: str = row["password_hash"]
    return kept


async def test_what_is_tried_first_is_no_password(
    subtests: pytest.Subtests, client: httpx.AsyncClient, ann: Member
) -> None:
    for password in EASY:
        with subtests.test(msg=f"{password!r:.60}"):
            for answer, field in (
                (await client.post("/users/create/", json=ANN | {"password": password}), "password"),
                (await start_password(client, ann, password), "new_password"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
                (error,) = answer.json()["errors"]
                assert error["field"] == field
                assert "Choose" in error["message"]
            assert await Message.count().where(Message.event.like("%_code:%")) == 1  # of Ann's own registration


async def test_whoever_has_such_a_password_still_signs_in(client: httpx.AsyncClient, ann: Member) -> None:
    await User.update({User.password_hash: WEAK.hash("password")}).where(User.id == ann.user["id"])
    assert (await sign_in(client, PHONE, "password")).status_code == 201


async def test_signing_in_makes_a_weak_hash_strong_and_signs_nobody_out(client: httpx.AsyncClient, ann: Member) -> None:
    weak = WEAK.hash(ann.password)
    await User.update({User.password_hash: weak}).where(User.id == ann.user["id"])
    assert (await sign_in(client, PHONE, "not the password")).status_code == 401
    assert await hash_of(ann) == weak
    answers = await asyncio.gather(*(sign_in(client, PHONE, ann.password) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    strong = await hash_of(ann)
    assert strong != weak
    assert not is_outdated(strong)
    for tokens in (ann.tokens, *(answer.json() for answer in answers)):
        assert (await profile(client, f"Bearer {tokens['access']}")).status_code == 200
    assert (await sign_in(client, PHONE, ann.password)).status_code == 201
    assert await hash_of(ann) == strong


async def test_a_sign_in_does_not_fail_where_hashing_anew_does(
    client: httpx.AsyncClient, ann: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = WEAK.hash(ann.password)
    await User.update({User.password_hash: weak}).where(User.id == ann.user["id"])

    async def fail(_self: Passwords, _password: str) -> str:
        raise Overloaded

    monkeypatch.setattr(Passwords, "hash", fail)
    assert (await sign_in(client, PHONE, ann.password)).status_code == 201
    assert await hash_of(ann) == weak
