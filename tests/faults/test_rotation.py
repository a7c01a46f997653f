"""
The secret is replaced in two rolls, and the database's login meanwhile: processes from before and after serve the same
people.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from app.auth.tokens import ACCESS, REFRESH, Lifetimes, TokenInvalid, Tokens
from tasks.messages.sealing import Seal
from tests.helpers.tokens import refresh, sign_in
from tests.helpers.users import PASSWORD, Json
from tests.helpers.waiting import GIVE_UP_SECONDS, until
from tests.helpers.wallet_processes import server, wallet

OLD, NEW = "the old secret, of more than 32 bytes", "the new secret, of more than 32 bytes"
# What docs/operations.md has an operator set, roll by roll.
BEFORE = {"WALLET_SECRET": OLD}
FIRST_ROLL = {"WALLET_SECRET": OLD, "WALLET_COMING_SECRET": NEW}
SECOND_ROLL = {"WALLET_SECRET": NEW, "WALLET_RETIRED_SECRET": OLD}


# The logins that take turns, each with a password of its own. Both act as the owner of the tables.
LOGINS = ("rotated_one", "rotated_two")


@pytest.fixture
async def logins(database: str) -> AsyncIterator[list[str]]:
    """The addresses of the database for each login, made as docs/operations.md says."""
    owner = urlsplit(database)
    connection = await asyncpg.connect(database)
    for name in LOGINS:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'of-{name}' IN ROLE {owner.username}")
        await connection.execute(f"ALTER ROLE {name} SET role = '{owner.username}'")
    at = owner.netloc.rpartition("@")[2]
    yield [owner._replace(netloc=f"{name}:of-{name}@{at}").geturl() for name in LOGINS]
    for name in LOGINS:
        await connection.execute(f"DROP ROLE {name}")
    await connection.close()


@pytest.fixture
async def stages(logins: list[str], redis_url: str, tmp_path: Path) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client of an API process at each stage, and a worker of the first roll, which is there for all of them."""
    one, two = (
        {"DATABASE_URL": url, "REDIS_URL": redis_url, "WALLET_RATES_BASE_URL": "http://127.0.0.1:9"} for url in logins
    )
    with ExitStack() as processes:
        folders = [tmp_path / name for name in ("worker", "before", "first", "second")]
        for folder in folders:
            folder.mkdir()
        processes.enter_context(wallet("worker", folder=folders[0], **two, **FIRST_ROLL))
        stages = (one | BEFORE, one | FIRST_ROLL, two | SECOND_ROLL)
        started = [
            processes.enter_context(server("api", folder=folder, **variables))
            for folder, variables in zip(folders[1:], stages, strict=True)
        ]
        async with AsyncExitStack() as clients:
            for each in started:
                each.wait_until_live()
            yield [
                await clients.enter_async_context(httpx.AsyncClient(base_url=each.url, timeout=GIVE_UP_SECONDS))
                for each in started
            ]


async def code_for(api: httpx.AsyncClient, email: str) -> str:
    """The code that the worker has sent to this address."""
    found: list[Json] = []

    async def arrived() -> bool:
        answer = await api.get("/dev/mailbox/", params={"to": email}, headers={"Accept": "application/json"})
        found[:] = [mail for mail in answer.json() if "Confirm" in mail["subject"]]
        return bool(found)

    await until(arrived)
    (code,) = re.findall(r"\b\d{6}\b", found[0]["text"])
    return str(code)


async def join(begin: httpx.AsyncClient, finish: httpx.AsyncClient, number: int) -> Json:
    """Register at one process, finish at another; what signs in, and the tokens of the first."""
    phone, email = f"+7701000{number:04}", f"person{number}@example.com"
    session = await begin.post("/users/create/", json={"email": email, "phone_number": phone, "password": PASSWORD})
    assert session.status_code == 201, session.text
    body = {"session_id": session.json()["session_id"], "code": await code_for(begin, email)}
    made = await finish.post("/users/verify/", json=body)
    assert made.status_code == 201, made.text
    tokens: Json = (await sign_in(begin, phone)).json()
    return tokens


async def refreshed(api: httpx.AsyncClient, tokens: Json) -> Json:
    """The next pair."""
    answer = await refresh(api, tokens["refresh"])
    assert answer.status_code == 201, answer.text
    pair: Json = answer.json()
    return pair


async def served(api: httpx.AsyncClient, tokens: Json) -> int:
    """How the access token fares."""
    return (await api.get("/users/", headers={"Authorization": f"Bearer {tokens['access']}"})).status_code


async def test_nobody_is_signed_out_no_code_is_lost_and_every_message_arrives(
    stages: list[httpx.AsyncClient], database: str, logins: list[str]
) -> None:
    before, first, second = stages
    people = []
    # A roll is two kinds of processes at the same time: each must take what the other gave.
    for number, (begin, finish) in enumerate([(before, first), (first, before), (first, second), (second, first)]):
        tokens = await join(begin, finish, number)
        assert [await served(api, tokens) for api in (begin, finish)] == [200, 200]
        tokens = await refreshed(finish, tokens)
        assert [await served(api, tokens) for api in (begin, finish)] == [200, 200]
        people.append(await refreshed(begin, tokens))
    # Nobody has done anything since the roll before: the second one serves them, and signs for what follows.
    renewed = [await refreshed(second, tokens) for tokens in people]
    after = Tokens(NEW, Lifetimes())
    for tokens in renewed:
        assert after.read(tokens["access"], ACCESS)
        assert after.read(tokens["refresh"], REFRESH)
    # Whose tokens were not renewed is why the retired secret stays until they have expired.
    with pytest.raises(TokenInvalid):
        after.read(people[0]["refresh"], REFRESH)

    # The database's old login goes when no process has it any more; here those of the old one are cut off.
    connection = await asyncpg.connect(database)
    await connection.execute(f"ALTER ROLE {LOGINS[0]} NOLOGIN")
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", LOGINS[0])
    await connection.close()
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(logins[0])
    headers = {"Authorization": f"Bearer {renewed[0]['access']}"}
    for currency in ("KZT", "EUR", "USD"):
        opened = await second.post("/users/wallets/create/", json={"amount_currency": currency}, headers=headers)
        assert opened.status_code == 201, opened.text
    assert (await first.get("/health/ready")).status_code == 503


def test_what_is_sealed_under_either_secret_is_opened_in_both_rolls() -> None:
    for sealing in (OLD, NEW):
        for opening in (Seal(OLD, others=[NEW]), Seal(NEW, others=[OLD])):
            assert opening.open(Seal(sealing).close("482913")) == "482913"
