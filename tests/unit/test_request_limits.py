"""Whose requests are counted together, and what happens when nobody can count."""

import asyncio
import logging
from time import perf_counter

import pytest
from redis.asyncio import Redis

from app.limits.requests import RateLimited, RateLimiter, RateLimits, network
from app.limits.visitor import Standing, Visitor


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_an_ipv6_customer_is_a_network(address: str, expected: str) -> None:
    assert network(address) == expected


def test_a_refusal_says_when_to_come_back() -> None:
    refusal = RateLimited("sign-ins-per-phone", most=30, window_seconds=900, wait_seconds=42)
    assert refusal.headers == {
        "Retry-After": "42",
        "RateLimit": '"sign-ins-per-phone";r=0;t=42',
        "RateLimit-Policy": '"sign-ins-per-phone";q=30;w=900',
    }


def test_an_answer_tells_of_the_limit_of_which_least_is_left() -> None:
    visitor = Visitor(address="192.0.2.7")
    assert visitor.headers == {}
    for policy, left in (("wide", 9), ("tight", 2), ("other", 5)):
        visitor.told(Standing(policy, most=10, window_seconds=900, left=left, seconds=60))
    assert visitor.headers == {"RateLimit": '"tight";r=2;t=60', "RateLimit-Policy": '"tight";q=10;w=900'}


def test_what_counts_somebody_whom_they_name_is_told_once_they_have_proven_to_be_them() -> None:
    visitor = Visitor(address="192.0.2.7")
    visitor.told(Standing("phone", most=10, window_seconds=900, left=2, seconds=60), claimed=True)
    assert visitor.headers == {}
    visitor.told(Standing("address", most=10, window_seconds=900, left=5, seconds=60))
    assert visitor.headers["RateLimit"] == '"address";r=5;t=60'
    visitor.proven()
    assert visitor.headers["RateLimit"] == '"phone";r=2;t=60'


async def test_without_redis_the_process_limits_by_itself_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.limits.requests.COUNT_SECONDS", 0.01)  # it is asked again after so long
    async with Redis.from_url("redis://127.0.0.1:1") as redis:
        limiter = RateLimiter(redis, RateLimits(sign_ins_per_phone=2), per_address=True)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                await limiter.sign_in("+77011234567", Visitor(address="192.0.2.7"))
                await asyncio.sleep(0.02)
            for _ in range(3):
                with pytest.raises(RateLimited):
                    await limiter.sign_in("+77011234567", Visitor(address="192.0.2.7"))
    assert ["by each process alone" in record.message for record in caplog.records] == [True]


async def test_a_silent_redis_holds_nobody_up_for_long() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Redis.from_url(f"redis://127.0.0.1:{port}") as redis:
            limiter = RateLimiter(redis, RateLimits(), per_address=False)
            begun = perf_counter()
            for _ in range(10):
                await limiter.sign_in("+77011234567", Visitor(address="192.0.2.7"))
    # The first waits for a second, the others know already: otherwise it would be ten.
    assert perf_counter() - begun < 8
