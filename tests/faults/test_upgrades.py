"""Offers to go on in another protocol, to a real server: straight, and through proxies that pass them on."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import product
from pathlib import Path

import httpx
import pytest

from db.servers.process import free_port
from tests.helpers.users import register
from tests.helpers.waiting import GIVE_UP_SECONDS, eventually
from tests.helpers.wallet_processes import RealServer, server

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
# Where this is taken for the beginning of a request, whatever comes next over the connection is its end. Empty lines
# before it mean nothing, so it does not matter where a packet begins.
PREFIX = b"GET /smuggled HTTP/1.1\r\nHost: wallet.test\r\nX-Rest: "
PADDING = b"\r\n" * 60_000

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    upstream api {{
        server 127.0.0.1:{api};
        keepalive 4;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
listen api
    bind 127.0.0.1:{port}
    http-reuse always
    server api 127.0.0.1:{api}
"""


@pytest.fixture
def api(database: str, redis_url: str, tmp_path: Path) -> Iterator[RealServer]:
    with server("api", folder=tmp_path, DATABASE_URL=database, REDIS_URL=redis_url) as api:
        api.wait_until_live()
        yield api


@contextmanager
def proxy(command: list[str], config: str, api: RealServer, folder: Path) -> Iterator[str]:
    """A real proxy before the server, in the foreground; its address."""
    port = free_port()
    file = folder / "proxy.conf"
    file.write_text(config.format(folder=folder, port=port, api=port_of(api.url)))
    with (folder / "proxy.out").open("wb") as output:
        process = subprocess.Popen([*command, file], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        assert eventually(lambda: process.poll() is not None or answers(port)), "it does not come up"
        assert process.poll() is None, (folder / "proxy.out").read_text()
        yield url
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def asked(url: str, *pieces: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the first answer to this, sent piece by piece; then the client is gone."""
    with closing(socket.create_connection(("127.0.0.1", port_of(url)), timeout=GIVE_UP_SECONDS)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        with connection.makefile("rb") as answer:
            head = b"".join(iter(answer.readline, b"\r\n")).lower()
            length = re.search(rb"\ncontent-length: (\d+)", head)
            assert length, head
            return head, answer.read(int(length[1]))


@pytest.fixture(params=["nginx", "haproxy"])
def proxied(request: pytest.FixtureRequest, api: RealServer, tmp_path: Path) -> Iterator[str]:
    path = shutil.which(request.param, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if path is None:
        pytest.skip(f"{request.param} is not installed")
    option, config = {"nginx": ("-c", NGINX), "haproxy": ("-f", HAPROXY)}[request.param]
    with proxy([path, option], config, api, tmp_path) as url:
        yield url


async def test_an_offer_of_http_2_deposits_and_connect_is_refused(api: RealServer) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=GIVE_UP_SECONDS) as client:
        wallet = await (await register(client)).open_wallet()
        body = b'{"amount": "12.50"}'
        for offer in (H2C, WEBSOCKET):
            post = b"POST /users/wallets/%d/deposit/ HTTP/1.1\r\nHost: a\r\n%s" % (wallet.id, offer)
            post += b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n" % wallet.owner.token.encode()
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            for pieces in ([post + length, body], [post + length + body], [post + chunked]):
                head, _ = asked(api.url, *pieces)
                assert head.startswith(b"http/1.1 201 "), head
        assert await wallet.balance() == Decimal("75.00")
    head, problem = asked(api.url, b"CONNECT bank:443 HTTP/1.1\r\nHost: bank\r\n\r\n")
    assert head.startswith(b"http/1.1 501 ")
    assert b"\nconnection: close\r\n" in head
    assert json.loads(problem)["code"] == "not_implemented"
    asked(api.url, b"nonsense\r\n\r\n")
    said = api.output.read_text()
    assert "warning" not in said.lower(), said
    assert "error" not in said.lower(), said


async def test_behind_a_proxy_nobody_is_answered_with_what_a_stranger_has_prepared(proxied: str) -> None:
    async with httpx.AsyncClient(base_url=proxied, timeout=GIVE_UP_SECONDS) as client:
        victim = await register(client)
    body = PADDING + PREFIX
    for offer, announced in product((WEBSOCKET, H2C), (b"Content-Length: %d\r\n" % len(body), b"")):
        sent = body if announced else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        head = b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + offer
        head += announced or b"Transfer-Encoding: chunked\r\n"
        for _ in range(2):
            answer, _ = asked(proxied, head + b"\r\n", sent)
            assert answer.startswith(b"http/1.1 200 ")
            async with httpx.AsyncClient(base_url=proxied, timeout=GIVE_UP_SECONDS) as client:
                seen = await client.get("/users/", headers=victim.headers)
            assert seen.status_code == 200, seen.text
            assert seen.json()["id"] == str(victim.user_id)
