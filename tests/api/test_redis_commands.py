"""What we and SAQ ask of Redis is known to the oldest version that is let in."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from msgspec.structs import replace
from redis import Redis

from app.limits.payments import POLICY
from app.limits.requests import RateLimits, limit_key
from app.people import registration
from app.settings import Settings
from db.tables import Message
from tasks.redis_check import REDIS_MIN
from tests.helpers.users import ANN, CodeOf, register
from tests.helpers.waiting import until
from tests.helpers.wallet_processes import wallet

# redis-py introduces itself and goes on where that is not known. The others are the test's own.
NOT_OURS = frozenset({"CLIENT", "HELLO", "MONITOR", "COMMAND", "AUTH"})
HEARD_WELL = {"EVAL", "EVALSHA", "INCRBY", "PEXPIRE", "EXPIRE", "HINCRBY", "SADD", "PUBLISH", "BLMOVE", "ZADD"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, limits=RateLimits(payments_per_user=60))


@contextmanager
def monitored(redis_url: str) -> Iterator[list[list[str]]]:
    """Every command that the server carries out meanwhile, scripts' own too; complete when the block has ended."""
    url, heard = urlsplit(redis_url), list[list[str]]()
    with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
        connection.sendall(f"AUTH {url.password}\r\nMONITOR\r\n".encode() if url.password else b"MONITOR\r\n")
        yield heard
        with Redis.from_url(redis_url) as redis:
            redis.echo("that is all")
        with connection.makefile("rb") as lines:
            for line in lines:
                words = [word.decode() for word in re.findall(rb'"((?:[^"\\]|\\.)*)"', line)]
                if "that is all" in words:
                    return
                if words:
                    heard.append([words[0].upper(), *words[1:]])


def too_new(redis: Any, command: list[str]) -> list[str]:
    """The command, and each of its words, that is younger than the oldest version."""

    def since(docs: dict[bytes, Any]) -> tuple[int, ...]:
        return tuple(int(number) for number in docs.get(b"since", b"0").split(b".")[:2])

    def younger(arguments: Any, than: tuple[int, ...]) -> Iterator[str]:
        for argument in map(_pairs, arguments):
            token, own = argument.get(b"token", b"").decode().upper(), max(since(argument), than)
            if token and own > REDIS_MIN and token in map(str.upper, command[1:]):
                yield token
            yield from younger(argument.get(b"arguments", []), own)

    answer = redis.execute_command("COMMAND DOCS", command[0])
    docs = _pairs(next(iter(_pairs(answer).values())))
    return [command[0]] * (since(docs) > REDIS_MIN) + list(younger(docs.get(b"arguments", []), (0, 0)))


def _pairs(answer: Any) -> dict[bytes, Any]:
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


async def test_nothing_that_is_asked_is_younger_than_the_oldest_redis(
    client: httpx.AsyncClient,
    code_of: CodeOf,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: Any) -> None:
        raise ConnectionResetError

    with monitored(redis_url) as heard:
        session = (await client.post("/users/create/", json=ANN)).json()
        codes = {"session_id": session["session_id"], "code": await code_of(session)}
        with monkeypatch.context() as patch:  # the code is put back
            patch.setattr(registration, "make_user", fail)
            assert (await client.post("/users/verify/", json=codes)).status_code == 503
        assert (await client.post("/users/verify/", json=codes)).status_code == 201
        person = await register(client)
        purse = await person.open_wallet(holding="100")
        assert (await purse.send("1", "0000000000")).status_code == 404
        assert (await client.get("/health/ready")).status_code == 200

        with Redis.from_url(redis_url) as redis:

            async def counted() -> bool:
                return redis.get(limit_key(POLICY, str(person.user_id))) is not None

            await until(counted)

        async def delivered() -> bool:
            return not await Message.exists().where(Message.sent_at.is_null())

        with wallet("worker", folder=tmp_path, DATABASE_URL=database_url, REDIS_URL=redis_url):
            await until(delivered)

    ours = [command for command in heard if command[0] not in NOT_OURS]
    assert {command[0] for command in ours} >= HEARD_WELL
    with Redis.from_url(redis_url) as redis:
        assert too_new(redis, ["PEXPIRE", "key", "1", "NX"]) == ["NX"], "so this test can see it"
        assert too_new(redis, ["PEXPIRETIME", "key"]) == ["PEXPIRETIME"]
        asked = {tuple(command[:1] + [word for word in command[1:] if word.isalpha()]) for command in ours}
        assert [found for command in asked if (found := too_new(redis, list(command)))] == []
