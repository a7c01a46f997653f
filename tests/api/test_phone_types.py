"""Whoever has a number that costs us dearly can't have codes sent to it, and those who are here with one stay."""

import httpx
import pytest
from msgspec.structs import replace

from app.people.passwords.hashing import Passwords
from app.settings import Settings
from db.tables import Message, User
from tests.helpers.registrations import start
from tests.helpers.tokens import sign_in
from tests.helpers.users import PASSWORD

PREMIUM = ["+979123456789", "+1 900 234 5678", "+44 909 879 0000", "+7 809 123-45-67", "8 809 123 45 67"]


async def test_a_premium_number_is_refused_and_nothing_is_sent(client: httpx.AsyncClient) -> None:
    for number in PREMIUM:
        body = {"email": "new@example.com", "phone_number": number, "password": PASSWORD}
        answer = await client.post("/users/create/", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed"), number
        assert [error["field"] for error in answer.json()["errors"]] == ["phone_number"]
    assert await Message.count() == 0


async def test_who_has_such_a_number_already_is_not_locked_out(client: httpx.AsyncClient) -> None:
    passwords = Passwords()
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    number = "+979123456789"
    await User(email="old@example.com", phone_number=number, password_hash=hashed).save()
    assert (await sign_in(client, number)).status_code == 201
    assert (await client.post("/users/password/reset/", json={"phone_number": number})).status_code == 201
    assert await Message.select(Message.template) == [{"template": "reset_code"}]


class TestWhereTheyMayRegister:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, phone_types="premium_rate")

    async def test_the_setting_decides(self, client: httpx.AsyncClient) -> None:
        await start(client, phone=PREMIUM[0])
        answer = await client.post(
            "/users/create/", json={"email": "a@example.com", "phone_number": "+77011234567", "password": PASSWORD}
        )
        assert answer.status_code == 400
