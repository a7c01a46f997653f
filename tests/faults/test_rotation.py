"""
The secret is replaced in two rolls, and the logins of the database and of Redis meanwhile: processes from before and
after serve the same people.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

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
ROTATED = "rotated"  # a user of Redis, with two passwords meanwhile

DOCS = Path(__file__).parents[2] / "docs"


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


async def command(redis: Redis, *words: str) -> None:
    """Have Redis do what an operator would type."""
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]


@pytest.fixture
async def passwords(redis_url: str) -> AsyncIterator[list[str]]:
    """The addresses of Redis with the old and with the new password of a user, added as docs/operations.md says."""
    at = urlsplit(redis_url)
    async with Redis.from_url(redis_url) as redis:
        await command(redis, "ACL", "SETUSER", ROTATED, "on", ">before", "~*", "&*", "+@all")
        await command(redis, "ACL", "SETUSER", ROTATED, ">after")
        host = at.netloc.rpartition("@")[2]
        yield [at._replace(netloc=f"{ROTATED}:{each}@{host}").geturl() for each in ("before", "after")]
        await command(redis, "ACL", "DELUSER", ROTATED)


@pytest.fixture
async def stages(logins: list[str], passwords: list[str], tmp_path: Path) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client of an API process at each stage, and a worker of the first roll, which is there for all of them."""
    one, two = (
        {"DATABASE_URL": url, "REDIS_URL": redis_url, "WALLET_RATES_BASE_URL": "http://127.0.0.1:9"}
        for url, redis_url in zip(logins, passwords, strict=True)
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
    stages: list[httpx.AsyncClient], database: str, logins: list[str], redis_url: str
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

    # So does Redis's old password. Who has the new one is back at once, and the others are told why they are not.
    async with Redis.from_url(redis_url) as redis:
        await command(redis, "ACL", "SETUSER", ROTATED, "<before")
        await command(redis, "CLIENT", "KILL", "USER", ROTATED)
    await join(second, second, len(people))

    async def refused() -> bool:
        check = (await first.get("/health/ready")).json()["checks"]["redis"]
        return bool(check["status"] == "down" and "does not let us in" in check["detail"])

    await until(refused)


async def test_the_database_s_second_login_is_made_by_whom_the_documentation_names(database: str) -> None:
    """Neither the owner nor anybody else who may create roles, but who created the owner."""
    section = (DOCS / "operations.md").read_text().partition("## Replace the database's password")[2]
    written = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert written
    make = written[1].replace("wallet", "rotated_owner")
    names = ("rotated_owner_two", "rotated_owner", "rotated_creator", "rotated_stranger")
    superuser = await asyncpg.connect(database)
    at = urlsplit(database)

    async def connect(name: str) -> asyncpg.Connection:
        return await asyncpg.connect(at._replace(netloc=f"{name}:pw@{at.netloc.rpartition('@')[2]}").geturl())

    async def as_role(name: str, statements: str) -> str:
        """What the last of the statements did, or the name of the error."""
        connection = await connect(name)
        try:
            return str(await connection.execute(statements))
        except asyncpg.PostgresError as error:
            return type(error).__name__
        finally:
            await connection.close()

    try:
        for name in ("rotated_creator", "rotated_stranger"):
            await superuser.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'pw'")
        assert await as_role("rotated_creator", "CREATE ROLE rotated_owner LOGIN PASSWORD 'pw'") == "CREATE ROLE"
        make = make.replace("<new password>", "pw")
        assert await as_role("rotated_owner", make) == "InsufficientPrivilegeError"
        if superuser.get_server_version().major >= 16:
            assert await as_role("rotated_stranger", make) == "InsufficientPrivilegeError"
        assert await as_role("rotated_creator", make) == "ALTER ROLE"
        second = await connect("rotated_owner_two")
        assert await second.fetchval("SELECT current_user") == "rotated_owner"
        await second.close()
        for close in ("ALTER ROLE rotated_owner NOLOGIN", "ALTER ROLE rotated_owner LOGIN PASSWORD 'another'"):
            assert await as_role("rotated_owner_two", close) == "InsufficientPrivilegeError"
            assert await as_role("rotated_creator", close) == "ALTER ROLE"
    finally:
        for name in names:
            await superuser.execute(f"DROP ROLE IF EXISTS {name}")
        await superuser.close()


def test_what_is_sealed_under_either_secret_is_opened_in_both_rolls() -> None:
    for sealing in (OLD, NEW):
        for opening in (Seal(OLD, others=[NEW]), Seal(NEW, others=[OLD])):
            assert opening.open(Seal(sealing).close("482913")) == "482913"
