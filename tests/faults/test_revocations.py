"""A session that one process ends is over in the other one, which is asked until it knows."""

import asyncio
from pathlib import Path

import httpx

from app.people.passwords.hashing import Passwords
from db.tables import User
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wallet_processes import api_servers

_PERSON = {"phone_number": "+77011234567", "password": "correct horse battery staple"}


async def test_a_sign_out_reaches_the_other_process(database: str, redis_url: str, tmp_path: Path) -> None:
    passwords = Passwords()
    hashed = await passwords.hash(_PERSON["password"])
    passwords.close()
    await User(email="ann@example.com", phone_number=_PERSON["phone_number"], password_hash=hashed).save()
    with api_servers(2, database_url=database, redis_url=redis_url, folder=tmp_path) as (one, two):
        here, there = (httpx.AsyncClient(base_url=each.url, timeout=GIVE_UP_SECONDS) for each in (one, two))
        async with here, there:
            tokens = (await here.post("/users/token/create/", json=_PERSON)).json()
            headers = {"Authorization": f"Bearer {tokens['access']}"}
            assert [(await each.get("/users/", headers=headers)).status_code for each in (here, there)] == [200, 200]
            answer = await here.post("/users/token/revoke/", json={"refresh": tokens["refresh"]})
            assert answer.status_code == 204
            assert (await here.get("/users/", headers=headers)).json()["code"] == "token_invalid"
            async with asyncio.timeout(GIVE_UP_SECONDS):
                while (answer := await there.get("/users/", headers=headers)).status_code == 200:
                    pass
            assert answer.json()["code"] == "token_invalid"
