"""What would have been sent, to read in a browser or from a program; in development only."""

from datetime import UTC, datetime

import httpx
import msgspec
import pytest
from litestar import Litestar
from redis.asyncio import Redis

from app.main import create_app
from app.settings import Settings
from tasks.messages.caught import CAUGHT_KEY, CAUGHT_MAX, CaughtMail, development_smtp
from tasks.messages.mail import Smtp, send_mail
from tasks.messages.templates import Letter, write

JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
NASTY = Letter(subject="<script>alert(1)</script>", text="Größe: 5 < 6 & “ok”\n.\nend\n", short="")


async def arrive(redis_url: str, *mails: tuple[str, Letter]) -> None:
    """Through real SMTP, as the worker sends them."""
    async with Redis.from_url(redis_url) as redis, development_smtp(redis) as port:
        for number, (to, letter) in enumerate(mails):
            await send_mail(
                Smtp(host="127.0.0.1", port=port, tls="none"), to=to, letter=letter, reference=f"message-{number}"
            )


async def test_messages_are_listed_newest_first_and_found_by_their_recipient(
    client: httpx.AsyncClient, redis_url: str
) -> None:
    await arrive(redis_url, ("Ann@x.kz", write("welcome", {})), ("bob@x.kz", write("password_code", {}, "482913")))
    mails = (await client.get("/dev/mailbox/", headers=JSON)).json()
    assert [(mail["to"], mail["subject"]) for mail in mails] == [
        ("bob@x.kz", "Confirm your new password"),
        ("Ann@x.kz", "Welcome to Wallet"),
    ]
    assert set(mails[0]) == {"to", "subject", "text", "sent_at"}
    assert "your code is 482913." in mails[0]["text"]
    assert datetime.fromisoformat(mails[0]["sent_at"]) <= datetime.now(UTC)
    found = (await client.get("/dev/mailbox", params={"to": " ANN@x.kz"}, headers=JSON)).json()
    assert [mail["to"] for mail in found] == ["Ann@x.kz"]


async def test_a_browser_gets_a_page_in_which_nothing_from_outside_can_act(
    client: httpx.AsyncClient, redis_url: str
) -> None:
    await arrive(redis_url, ("a@x.kz", NASTY))
    answer = await client.get("/dev/mailbox/", params={"to": "a@x.kz"}, headers=HTML)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "Größe: 5 &lt; 6 &amp; “ok”\n.\nend\n" in answer.text
    for outside in ("http:", "https:", "src=", "@import"):
        assert outside not in answer.text
    empty = await client.get("/dev/mailbox/", params={"to": '"><b>'}, headers=HTML)
    assert "No mail for &quot;&gt;&lt;b&gt; yet." in empty.text


async def test_only_this_machine_by_its_own_names_reads_it(
    subtests: pytest.Subtests, client: httpx.AsyncClient, redis_url: str
) -> None:
    """A page that has its own name resolve to this machine is of one origin with it, and could read all answers."""
    await arrive(redis_url, ("ann@x.kz", write("password_code", {}, "482913")))
    for hosts, told in [
        (("127.0.0.1", "127.0.0.1:8000", "127.9.9.9:1", "[::1]", "[::1]:8000", "localhost", "LOCALHOST:3000"), True),
        (("wallet.localhost:8000", "a.b.localhost", "wallet.test", "Wallet.Test:8000"), True),
        (("evil.test", "evil.test:8000", "wallet.test.evil.test", "evil-wallet.test", "localhost.evil.test"), False),
        (("127.0.0.1.evil.test", "evillocalhost", "10.0.0.1:8000", "0.0.0.0:8000", "[::2]", "[::ffff:a00:1]"), False),
        (("", "127.0.0.1@evil.test", "evil.test@127.0.0.1", "evil.test/127.0.0.1", "127.0.0.1 evil.test", "["), False),
        (("[::1", "::1", "localhost:x", "localhost:80:80", "2130706433", "localhost\u0131", "[::1%25evil]"), False),
    ]:
        with subtests.test(msg=f"{hosts!r:.60}"):
            for host in hosts:
                for path in ("/dev/mailbox/", "/dev/mailbox", "/dev/mailbox/?to=ann@x.kz"):
                    answer = await client.get(
                        path, headers=[(b"Host", host.encode()), (b"Accept", b"application/json")]
                    )
                    assert ("482913" in answer.text) == told, (host, path)
                    assert answer.status_code in ({200} if told else {400, 421}), (host, path)


async def test_only_the_last_messages_are_kept(redis_url: str) -> None:
    old = msgspec.json.encode(CaughtMail(to="a@x.kz", subject="old", text="", sent_at=datetime.now(UTC)))
    async with Redis.from_url(redis_url) as redis:
        await redis.rpush(CAUGHT_KEY, *[old] * CAUGHT_MAX)  # type: ignore[misc]  # redis-py types both worlds at once
        await arrive(redis_url, ("a@x.kz", NASTY))
        assert await redis.llen(CAUGHT_KEY) == CAUGHT_MAX  # type: ignore[misc]


@pytest.fixture
def production(settings: Settings) -> Litestar:
    strict = msgspec.structs.replace(settings, environment="production", secret="x" * 64, smtp=Smtp(host="127.0.0.1"))
    return create_app(strict)


async def test_in_production_there_is_no_mailbox(production: Litestar) -> None:
    transport = httpx.ASGITransport(production)  # type: ignore[arg-type]  # two names for one protocol
    async with production.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://wallet.test") as client:
        assert (await client.get("/dev/mailbox/", headers=JSON)).status_code == 404
