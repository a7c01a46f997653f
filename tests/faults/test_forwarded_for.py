"""Only a trusted proxy says where a request comes from; nobody gets another limit by claiming to be somebody else."""

import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.helpers.wallet_processes import RealServer, server

PRODUCTION = {
    "WALLET_ENVIRONMENT": "production",
    "WALLET_SECRET": "0123456789abcdefghijklmnopqrstuvwxyz",
    "WALLET_SMTP_HOST": "127.0.0.1",
    "WALLET_LIMITS_REFRESHES_PER_ADDRESS": "1",
}


def api(folder: Path, database_url: str, redis_url: str, **variables: str) -> Iterator[RealServer]:
    """One in production, where an address gets one refresh."""
    addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with server("api", folder=folder, **PRODUCTION, **addresses, **variables) as running:
        running.wait_until_live()
        yield running


@pytest.fixture
def alone(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
    yield from api(tmp_path, database_url, redis_url)


@pytest.fixture
def behind_proxies(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
    yield from api(tmp_path, database_url, redis_url, WALLET_HTTP_TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8")


@pytest.fixture
def on_both(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
    """It listens to IPv6 and IPv4 with one socket, and trusts proxies by their IPv4 addresses."""
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    addresses = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WALLET_HTTP_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
    }
    with server("api", "--host", "::", folder=tmp_path, **PRODUCTION, **addresses) as running:
        running.wait_until_live()
        yield running


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def refreshed(server: RealServer, *forwarded_for: str) -> bool:
    """Whether a refresh from there is let through to be found wrong, and not limited."""
    headers = [("X-Forwarded-For", each) for each in forwarded_for]
    answer = httpx.post(f"{server.url}/users/token/refresh/", json={"refresh": "x"}, headers=headers, timeout=60)
    assert answer.status_code in (401, 429)
    return answer.status_code == 401


def test_nobody_is_believed_where_no_proxy_is_trusted(alone: RealServer) -> None:
    assert refreshed(alone)
    for claim in ("192.0.2.1", "127.0.0.1", "192.0.2.1, 192.0.2.2", "nonsense", ""):
        assert not refreshed(alone, claim), claim


def test_a_trusted_proxy_is_believed_in_what_it_has_added_itself(behind_proxies: RealServer) -> None:
    client = "192.0.2.1"
    assert refreshed(behind_proxies, client)
    same = [
        (client,),
        (f"198.51.100.9, {client}",),  # the client has made up where it comes from, and the proxy added where it was
        (f"{client}, 10.1.2.3",),  # through two of ours
        (f"nonsense, {client}, 10.1.2.3, 10.3.2.1",),
        ("198.51.100.8", client),  # in two lines
        (f"{client}:50123",),
        (f"127.0.0.1, {client}",),
        (f"{'9' * 5_000}, {client}",),
    ]
    for claim in same:
        assert not refreshed(behind_proxies, *claim), claim
    assert refreshed(behind_proxies, f"{client}, 192.0.2.2"), "another client behind the proxy"


def test_a_client_of_ipv4_is_one_whichever_way_it_comes(on_both: RealServer) -> None:
    """The proxy arrives as `::ffff:127.0.0.1`, and is believed."""
    client = "192.0.2.1"
    assert refreshed(on_both, client)
    same = [
        (f"::ffff:{client}",),
        ("::FFFF:c000:0201",),
        (f"[::ffff:{client}]:443",),
        (f"{client}, ::ffff:10.1.2.3",),  # through two of ours
        (f"0:0:0:0:0:ffff:{client}, 10.1.2.3, ::ffff:a01:203",),
    ]
    for claim in same:
        assert not refreshed(on_both, *claim), claim
    assert refreshed(on_both, "::ffff:192.0.2.2"), "another client behind the proxy"
    assert refreshed(on_both, "192.0.2.3, ::ffff:11.1.2.3"), "not a proxy of ours"
    assert not refreshed(on_both, "192.0.2.4, 11.1.2.3")
    assert f"client={client}" in on_both.output.read_text() or f'"client":"{client}"' in on_both.output.read_text()
    assert "::ffff" not in on_both.output.read_text()


def test_an_ipv6_customer_is_one_however_many_addresses_it_has(behind_proxies: RealServer) -> None:
    assert refreshed(behind_proxies, "2001:db8:1:2::1")
    assert [refreshed(behind_proxies, f"2001:db8:1:2::{number:x}") for number in range(2, 6)] == [False] * 4
    assert refreshed(behind_proxies, "[2001:db8:1:3::1]:443")


def test_garbage_from_a_proxy_is_limited_too(behind_proxies: RealServer) -> None:
    for number, claim in zip(count(), ("nonsense", "999.1.1.1", "<script>", "-"), strict=False):
        assert [refreshed(behind_proxies, claim) for _ in range(2)] == [True, False], number
