"""Redis behind TLS: what does not fit is told by its name, at start and whenever somebody asks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from actors.engine.redis_client import open_redis, redis_fault
from app.commands.errors import sentence
from tasks.redis_check import RedisUnsuitable, check_redis
from tests.helpers.tls import HTTP, SMTP, self_signed, somebody_else, tls_front
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.wallet_processes import run_wallet


class Addresses(dict[str, str]):
    """By what is wrong with them."""


@pytest.fixture
async def addresses(redis_url: str, tmp_path: Path) -> AsyncIterator[Addresses]:
    own, other = self_signed(tmp_path / "own.pem"), self_signed(tmp_path / "other.pem")
    expired = self_signed(tmp_path / "expired.pem", valid=timedelta(hours=-1))
    there = urlsplit(redis_url)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(tls_front(redis_url, own))
        late = await stack.enter_async_context(tls_front(redis_url, expired))
        web = await stack.enter_async_context(somebody_else(*HTTP))
        mail = await stack.enter_async_context(somebody_else(*SMTP))
        yield Addresses(
            {
                "": f"rediss://:{there.password}@localhost:{port}/0?ssl_ca_certs={own}",
                "unknown issuer": f"rediss://:{there.password}@localhost:{port}/0",
                "other issuer": f"rediss://:{there.password}@localhost:{port}/0?ssl_ca_certs={other}",
                "wrong name": f"rediss://:{there.password}@127.0.0.1:{port}/0?ssl_ca_certs={own}",
                "expired": f"rediss://:{there.password}@localhost:{late}/0?ssl_ca_certs={expired}",
                "no TLS": f"rediss://:{there.password}@localhost:{there.port}/0",
                "TLS": f"redis://:{there.password}@localhost:{port}/0",
                "web": f"redis://localhost:{web}/0",
                "mail": f"redis://:{there.password}@localhost:{mail}/0",
                "web, for TLS": f"rediss://localhost:{web}/0",
                "no such host": f"redis://:p@{there.password}@nobody.invalid:1/0",
                "away": "rediss://127.0.0.1:1/0",
                "socket": "unix:///no/such/socket",
            }
        )


@pytest.mark.parametrize(
    ("fault", "at_start", "later"),
    [
        ("unknown issuer", "certificate at REDIS_URL is not trusted: self-signed certificate.", "not trusted (self-"),
        ("other issuer", "certificate at REDIS_URL is not trusted: self-signed certificate.", "not trusted (self-"),
        ("wrong name", "not trusted: IP address mismatch, certificate is not valid for '127.0.0.1'.", "'127.0.0.1')"),
        ("expired", "certificate at REDIS_URL is not trusted: certificate has expired.", "(certificate has expired)"),
        (
            "no TLS",
            "asks for TLS (rediss://), and what answers there has none.",
            "does not answer (TimeoutError)",
        ),  # it waits
        ("TLS", "speaks TLS: let the address begin with rediss://.", "closes the connection"),
        ("web", "What answers at REDIS_URL is not Redis.", "answers as no Redis does"),
        ("mail", "What answers at REDIS_URL is not Redis.", "answers as no Redis does"),
        ("web, for TLS", "what answers there has none.", "answers without TLS"),
        ("no such host", None, "can't be found (look at REDIS_URL, and write special characters of a password as %23"),
        ("away", None, "does not answer (ConnectionError)"),
        ("socket", None, "does not answer (ConnectionError)"),
        ("", None, None),
    ],
)
async def test_what_does_not_fit_is_named(
    addresses: Addresses, fault: str, at_start: str | None, later: str | None
) -> None:
    url = addresses[fault]
    if at_start:
        with pytest.raises(RedisUnsuitable) as refused:
            await check_redis(url)
        assert at_start in str(refused.value)
        _without_password(str(refused.value), addresses)
    else:
        await check_redis(url)
    patience = 0.5 if fault == "no TLS" else GIVE_UP_SECONDS
    redis = open_redis(url, socket_timeout=patience, socket_connect_timeout=patience, retry=Retry(NoBackoff(), 0))
    try:
        if later is None:
            assert await redis.set("key", 1)
        else:
            with pytest.raises(RedisError) as met:
                await redis.set("key", 1)
            assert later in redis_fault(met.value)
            if fault not in ("away", "socket", "no TLS"):
                assert later in (sentence(met.value) or "")
                assert "does not answer" not in f"{sentence(met.value)}{redis_fault(met.value)}"
            _without_password(f"{sentence(met.value)}{redis_fault(met.value)}", addresses)
    finally:
        await redis.aclose()


@pytest.mark.parametrize("command", [("rates",), ("worker",), ("api", "--port", "0")])
async def test_every_command_refuses_a_certificate_that_is_not_trusted(
    command: tuple[str, ...], addresses: Addresses, database_url: str, tmp_path: Path
) -> None:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": addresses["unknown issuer"]}
    refused = await asyncio.to_thread(run_wallet, *command, folder=tmp_path, **urls)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "Redis's certificate at REDIS_URL is not trusted: self-signed certificate." in refused.stderr


def _without_password(said: str, addresses: Addresses) -> None:
    assert (urlsplit(addresses["TLS"]).password or "?") not in said
    assert ".." not in said
