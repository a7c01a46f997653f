"""Servers that are too old, and addresses that can't be right: told in one sentence, by every command that connects."""

import os
from pathlib import Path

import pytest

from db import suitability
from db.database_url import Unsuitable
from db.suitability import POSTGRES_MIN, check_postgres
from tasks import redis_check
from tasks.redis_check import REDIS_MIN, RedisUnsuitable, check_redis
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wallet_processes import run_wallet

# Servers of other versions, where somebody has them: CONTRIBUTING.md.
OLD_POSTGRES, OLD_REDIS = os.environ.get("TEST_OLD_POSTGRES", ""), os.environ.get("TEST_OLD_REDIS", "")
COMMANDS = [("fees",), ("rates",), ("api", "--port", "0"), ("worker",), ("serve", "--port", "0")]


async def test_an_older_postgresql_is_refused_and_the_oldest_is_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_postgres(database_url, GIVE_UP_SECONDS)
    monkeypatch.setattr(suitability, "POSTGRES_MIN", 99)
    with pytest.raises(Unsuitable, match=r"PostgreSQL \d+ at DATABASE_URL is too old: use 99 or newer."):
        await check_postgres(database_url, GIVE_UP_SECONDS)


async def test_an_older_redis_is_refused_and_one_that_is_away_is_not(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_redis(redis_url)
    monkeypatch.setattr(redis_check, "REDIS_MIN", (99, 0))
    with pytest.raises(RedisUnsuitable, match=r"Redis [\d.]+ at REDIS_URL is too old"):
        await check_redis(redis_url)
    await check_redis("redis://127.0.0.1:1/0")


@pytest.mark.skipif(not OLD_POSTGRES, reason="needs a PostgreSQL that is too old: TEST_OLD_POSTGRES")
@pytest.mark.parametrize("command", [*COMMANDS, ("migrate",), ("audit",), ("staff", "list")])
def test_every_command_refuses_an_old_postgresql(command: tuple[str, ...], redis_url: str, tmp_path: Path) -> None:
    refused = run_wallet(*command, folder=tmp_path, DATABASE_URL=OLD_POSTGRES, REDIS_URL=redis_url)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert f"too old: use {POSTGRES_MIN} or newer." in refused.stderr


@pytest.mark.skipif(not OLD_REDIS, reason="needs a Redis that is too old: TEST_OLD_REDIS")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_old_redis(command: tuple[str, ...], database_url: str, tmp_path: Path) -> None:
    refused = run_wallet(*command, folder=tmp_path, DATABASE_URL=database_url, REDIS_URL=OLD_REDIS)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert f"too old: use {REDIS_MIN[0]}.{REDIS_MIN[1]} or newer" in refused.stderr


async def test_a_parameter_of_database_url_that_cant_be_right_is_named(
    subtests: pytest.Subtests, database_url: str
) -> None:
    for part, named in [
        ("?sslmode=requre", "sslmode"),
        ("?sslmode=verify-full&sslrootcert=/no/such/file", "sslrootcert"),
        ("?sslmode=require&sslcert=/no/such/file", "sslcert"),
        ("?sslmode=require", "TLS"),
        ("?sslnegotiation=x", "sslnegotiation"),
        ("?ssl_min_protocol_version=x", "TLS version"),
        ("?target_session_attrs=x", "target_session_attrs"),
        ("?sslmod=require", "sslmod"),
        ("?statement_timeout=soon", "statement_timeout"),
        ("?max_connections=7", "max_connections"),
        ("?port=54x", "port"),
        ("?port=70000", "port"),
    ]:
        with subtests.test(msg=f"{part!r:.60}"):
            with pytest.raises(Unsuitable, match=named) as refused:
                await check_postgres(database_url + part, GIVE_UP_SECONDS)
            assert_one_sentence(str(refused.value))


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hid#den@h/x", "postgresql://u:hid/den@h/x", "postgresql://u:hidden@h:x/x", "postgresql://[::1/x"],
)
async def test_an_address_that_is_cut_short_is_told_of_without_the_password(url: str) -> None:
    with pytest.raises(Unsuitable, match="DATABASE_URL") as refused:
        await check_postgres(url, 1)
    assert_one_sentence(str(refused.value))
    with pytest.raises(RedisUnsuitable, match="REDIS_URL") as refused_too:
        await check_redis(url.replace("postgresql", "redis"))
    assert_one_sentence(str(refused_too.value))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("rediss://h:1?ssl_cert_reqs=foo", "Certificate Requirements"),
        ("rediss://h:1?ssl_ca_certs=/no/such/file", "ssl_ca_certs"),
        ("rediss://h:1?ssl_certfile=/no/such/file", "ssl_certfile"),
        ("rediss://h:1?ssl_min_version=x", "REDIS_URL"),
        ("rediss://h:1?ssl_ciphers=x", "REDIS_URL"),
        ("redis://h:1?ssl_cert_reqs=none", "ssl_cert_reqs is not an option here"),
        ("redis://h:1?foo=bar", "foo is not an option here"),
        ("redis://h:1?socket_timeout=soon", "socket_timeout"),
        ("redis://h:1?protocol=9", "protocol"),
        ("redis://h:x/0", "port"),
        ("redis://h:0/0", "port"),
        ("redis://h/abc", "number of a database"),
        ("redis://h?db=abc", "db"),
    ],
)
async def test_a_part_of_redis_url_that_cant_be_right_is_named(url: str, named: str) -> None:
    with pytest.raises(RedisUnsuitable, match=named) as refused:
        await check_redis(url)
    assert_one_sentence(str(refused.value))


@pytest.mark.parametrize("command", [("migrate",), ("api", "--port", "0"), ("worker",)])
def test_every_command_says_so(command: tuple[str, ...], database_url: str, redis_url: str, tmp_path: Path) -> None:
    """The worker too, which waits for a database that is away."""
    refused = run_wallet(*command, folder=tmp_path, DATABASE_URL=f"{database_url}?sslmode=requre", REDIS_URL=redis_url)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "DATABASE_URL: `sslmode` parameter must be one of" in refused.stderr


def assert_one_sentence(said: str) -> None:
    assert said.endswith(".")
    assert "\n" not in said
    assert "does not answer" not in said
    assert not any(word in said for word in ("hid#", "hid/", "'hid'", "hidden"))
