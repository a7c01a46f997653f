"""A DATABASE_URL or REDIS_URL that can't be right is refused in a sentence that names the part, and shows no secret."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from socket import gaierror
from urllib.parse import urlsplit

import pytest
from asyncpg.exceptions import InvalidAuthorizationSpecificationError

from app.commands.errors import sentence
from db.database_url import Unsuitable, check_database_url
from db.errors import ESCAPING
from db.suitability import check_postgres
from tasks.redis_check import RedisUnsuitable, check_redis
from tests.helpers.tls import HTTP, SMTP, postgres_door, self_signed, somebody_else
from tests.helpers.waiting import GIVE_UP_SECONDS

NOT_POSTGRES = "What answers at DATABASE_URL is not PostgreSQL."
TLS_OR_NOT = "asks for TLS (sslmode), and what answers there has none, or is not PostgreSQL."


@pytest.fixture
async def places(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, str]]:
    """What the addresses below are made of."""
    pair = self_signed(tmp_path / "pair.pem").read_text()
    certificate, key = pair[: pair.index("-----BEGIN PRIVATE")], pair[pair.index("-----BEGIN PRIVATE") :]
    another = self_signed(tmp_path / "another.pem").read_text()
    files = {
        "cert": certificate,
        "key": key,
        "another_key": another[another.index("-----BEGIN PRIVATE") :],
        "junk": "no certificate",
        "open_passwords": "*:*:*:*:hunter2",
        "passwords": "",
        "services": "[known]\nhost=localhost\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "open_passwords").chmod(0o644)
    (tmp_path / "passwords").chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(somebody_else(*HTTP))
        mail = await stack.enter_async_context(somebody_else(*SMTP))
        yield {
            "tls": str(await stack.enter_async_context(postgres_door(tmp_path / "pair.pem"))),
            "web": f"localhost:{web}",
            "mail": f"localhost:{mail}",
            "url": database_url,
            "place": database_url.rpartition("@")[2],
            "port": str(urlsplit(database_url).port),
            "folder": str(tmp_path),
        }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hunter2@{web}/x", NOT_POSTGRES),
        ("postgresql://u:hunter2@{mail}/x", NOT_POSTGRES),
        ("postgresql://u:hunter2@{web}/x?sslmode=prefer", NOT_POSTGRES),
        ("postgresql://u:hunter2@{web}/x?sslmode=require", TLS_OR_NOT),
        ("{url}?sslmode=require", TLS_OR_NOT),
        ("{url}?sslrootcert={folder}", "sslrootcert names a file that can't be read: {folder}."),
        ("{url}?sslrootcert=/nope", "sslrootcert names a file that can't be read: /nope."),
        ("{url}?sslrootcert=system&sslmode=verify-full", "sslrootcert=system is not supported: name the file"),
        ("{url}?sslrootcert={folder}/junk", "sslrootcert names a file without a certificate: {folder}/junk."),
        ("{url}?sslrootcert={folder}/key", "sslrootcert names a file without a certificate: {folder}/key."),
        ("{url}?sslcrl={folder}/junk", "sslcrl names a file without a certificate: {folder}/junk."),
        ("{url}?sslcert={folder}/junk", "sslcert names a file without a certificate: {folder}/junk."),
        ("{url}?sslcert={folder}/cert", "sslcert needs its key: name the file by sslkey."),
        ("{url}?sslcert={folder}/cert&sslkey={folder}/another_key", "sslkey names no key of the certificate in sslc"),
        ("{url}?sslcert={folder}/cert&sslkey={folder}/junk", "sslkey names no key of the certificate in sslcert"),
        ("{url}?sslkey={folder}", "sslkey names a file that can't be read: {folder}."),
        ("{url}?passfile=/nope", "passfile names a file that can't be read: /nope."),
        ("{url}?passfile={folder}/open_passwords", "passfile names a file that others may read, and is not used so"),
        ("{url}?service=abc", "service is abc, and no section of that name can be read in {folder}/services."),
        (
            "{url}?target_session_attrs=foo",
            "target_session_attrs must be one of any, primary, standby, prefer-standby, read-write, read-only.",
        ),
        ("postgresql:/u:hunter2@{place}", "has to begin with postgresql://, with two slashes."),
        ("postgres:u:hunter2@{place}", "has to begin with postgres://, with two slashes."),
        ("postgresql:///u:hunter2@{place}", ESCAPING),
        ("postgresql://u:hunter2@hunter2@{place}", ESCAPING),
        ("postgresql://u:hunter2@ss/w#rd@{place}", ESCAPING),
        ("postgresql://u:hunter2@localhost:{port}/w@{place}", ESCAPING),
        ("postgresql://u:h#hunter2@{place}", ESCAPING),
        ("postgresql://u:1?hunter2@{place}", ESCAPING),
        ("postgresql://u:1?hunter2=x@{place}", ESCAPING),
        ("postgresql://u:1/hunter2@{place}", ESCAPING),
        ("postgresql://u:[hunter2@{place}", ESCAPING),
        ("postgresql://u:@[hunter2:1/x", ESCAPING),
        ("postgresql://u:pw@hunter2..com:1/x", ESCAPING),
        ("postgresql://u:pw@%00hunter2:1/x", ESCAPING),
        ("postgresql://u:pw@a,,hunter2/x", ESCAPING),
        ("{url}?hunter2", "DATABASE_URL is not a URL (its value is not shown here)"),
        (
            "postgresql://u:hunter2@127.0.0.1:{tls}/x?sslmode=verify-full&sslrootcert={folder}/pair.pem",
            "at DATABASE_URL is not trusted: IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
        (
            "postgresql://u:hunter2@localhost:{tls}/x?sslmode=verify-ca&sslrootcert={folder}/another.pem",
            "PostgreSQL's certificate at DATABASE_URL is not trusted: self-signed certificate.",
        ),
    ],
)
async def test_a_database_url_that_cant_be_right(places: dict[str, str], url: str, said: str) -> None:
    with pytest.raises(Unsuitable) as refused:
        await check_postgres(url.format(**places), GIVE_UP_SECONDS)
    told = str(refused.value)
    assert said.format(**places) in told
    assert "DATABASE_URL" in told
    _one_sentence(told)
    assert (urlsplit(places["url"]).password or "?") not in told


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:p@ss/w#hunter2@h:6379/0", ESCAPING),
        ("redis://:hunter2#x@h:6379/0", ESCAPING),
        ("redis://h:6379/0#hunter2", ESCAPING),
        ("redis://:hunter2/x@h:6379/0", ESCAPING),
        ("redis://:1/hunter2@h:6379/0", ESCAPING),
        ("redis://:1?hunter2=x@h:6379/0", ESCAPING),
        ("redis://:1?hunter2@h:6379/0", ESCAPING),
        ("redis://:1?db=hunter2@h:6379/0", ESCAPING),
        ("redis://:pw@hunter2..com/0", ESCAPING),
        ("redis://[hunter2/0", ESCAPING),
        ("rediss://h?ssl_ca_certs={folder}", "ssl_ca_certs names a file that can't be read: {folder}."),
        ("rediss://h?ssl_ca_certs={folder}/junk", "ssl_ca_certs names a file without a certificate: {folder}/junk."),
        ("rediss://h?ssl_certfile={folder}/cert", "ssl_certfile needs its key: name the file by ssl_keyfile."),
        (
            "rediss://h?ssl_certfile={folder}/cert&ssl_keyfile={folder}/another_key",
            "ssl_keyfile names no key of the certificate in ssl_certfile, or ssl_password does not open it.",
        ),
    ],
)
async def test_a_redis_url_that_cant_be_right(places: dict[str, str], url: str, said: str) -> None:
    with pytest.raises(RedisUnsuitable) as refused:
        await check_redis(url.format(**places))
    told = str(refused.value)
    assert said.format(**places) in told
    assert "REDIS_URL" in told
    _one_sentence(told)


async def test_a_host_that_cant_be_found_is_waited_for_with_a_word_about_passwords(places: dict[str, str]) -> None:
    with pytest.raises(gaierror) as met:
        await check_postgres("postgresql://u:hunter2@ss.invalid/x", GIVE_UP_SECONDS)
    assert ESCAPING in (sentence(met.value) or "")
    assert "hunter2" not in (sentence(met.value) or "")


async def test_what_was_said_before_tls_was_tried_is_what_counts() -> None:
    async with postgres_door() as port:
        with pytest.raises(InvalidAuthorizationSpecificationError, match="no pg_hba"):
            await check_postgres(f"postgresql://u:hunter2@localhost:{port}/x?sslmode=allow", GIVE_UP_SECONDS)


async def test_what_is_right_is_not_refused(places: dict[str, str]) -> None:
    check_database_url("postgresql://h?user=me@server")
    check_database_url("postgresql://h/x?application_name=me@here")
    await check_redis("redis://localhost:1?username=me&password=p@w")
    for part in (
        "?service=known",
        "?passfile={folder}/passwords",
        "?sslrootcert={folder}/cert&sslcert={folder}/pair.pem",
        "?sslcert={folder}/cert&sslkey={folder}/key",
        "?target_session_attrs=read-write&sslmode=allow",
        "?target_session_attrs=prefer-standby",
    ):
        await check_postgres((places["url"] + part).format(**places), GIVE_UP_SECONDS)


def _one_sentence(told: str) -> None:
    assert told.endswith(".")
    assert not any(word in told for word in ("hunter2", "..", "\n", "does not answer", "built-in"))
