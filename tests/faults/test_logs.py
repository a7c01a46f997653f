"""The logs of a production server after a full run, at debug level: one line for each thing, and nothing secret."""

import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec
import pytest
from msgspec import Struct
from redis import Redis

from db.servers.embedded import Servers
from tests.helpers.prices import publish_rates
from tests.helpers.processes import inside
from tests.helpers.third_parties import mail_server, web_server
from tests.helpers.waiting import GIVE_UP_SECONDS
from tests.helpers.walkthrough import GONE, STAFF_PASSWORD, TROUBLE_AMOUNT, TROUBLE_EMAIL, Visit
from tests.helpers.wallet_processes import WALLET, environment, server

CONFIGURED = {
    "WALLET_SECRET": "Zx8-signing-0123456789-abcdefghijkl-mnop",
    "WALLET_SMTP_PASSWORD": "Qj4-smtp-relay-password",
    "WALLET_SMS_TOKEN": "Lp7-sms-gateway-token",
    "WALLET_METRICS_TOKEN": "Hv2-metrics-token",
    "WALLET_RATES_API_KEY": "Bn6-rates-api-key",
}
ANN, ANNS_PASSWORD, ANNS_NEXT_PASSWORD = "ann@wallet-test.kz", "Umber-falcon-3310-x", "Violet-heron-7725-y"
BEN, BENS_PASSWORD = "ben@wallet-test.kz", "Saffron-mole-1184-z"
CAS_PASSWORD = "Indigo-stoat-5562-w"
PHONES = ("+77011234567", "+77017654321", "+77015550000")

# With what PostgreSQL says when it refuses a row: all of it, the password's hash included.
_STUMBLE = f"""
ALTER TABLE "user" ADD CONSTRAINT "stumble" CHECK ("email" <> '{TROUBLE_EMAIL}');
ALTER TABLE "transaction" ADD CONSTRAINT "stumble" CHECK ("amount" <> {TROUBLE_AMOUNT});
"""
_STORED = """
SELECT password_hash AS secret FROM "user" UNION ALL SELECT token_hash FROM refresh_token
UNION ALL SELECT password FROM piccolo_user UNION ALL SELECT token FROM sessions
"""

Line = dict[str, Any]


class Log(Struct, frozen=True, kw_only=True):
    """What the processes wrote, and what had happened."""

    text: str
    visit: Visit
    secrets: set[str]
    elsewhere: dict[str, str]

    @property
    def lines(self) -> list[Line]:
        return [msgspec.json.decode(line) for line in self.text.splitlines()]

    def under(self, note: str) -> list[Line]:
        """The lines with the id of a request that was noted."""
        return [line for line in self.lines if line.get("request_id") == self.visit.noted[note]]


@pytest.fixture(scope="module")
async def log(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Log]:
    """`wallet serve` with two API processes and a worker, in production, from its start to its end."""
    folder = tmp_path_factory.mktemp("logged")
    assert servers.database_url
    assert servers.redis_url
    database_url = servers.database_url.rsplit("/", 1)[0] + "/logged"
    await _execute(servers.database_url, f"CREATE DATABASE logged TEMPLATE {template}")
    await _execute(database_url, _STUMBLE)
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushall()
    # Old enough for the worker to ask for new ones, with the key, and in vain.
    await publish_rates(servers.redis_url, age=timedelta(hours=3))
    smtp_login = ("wallet", CONFIGURED["WALLET_SMTP_PASSWORD"])
    async with mail_server(login=smtp_login) as mail, web_server(lambda: (202, b"{}")) as gateway:
        variables = CONFIGURED | {
            "DATABASE_URL": database_url,
            "REDIS_URL": servers.redis_url,
            "WALLET_ENVIRONMENT": "production",
            "WALLET_LOG_LEVEL": "debug",
            "WALLET_MEDIA_FOLDER": str(folder / "media"),
            "WALLET_RATES_BASE_URL": "http://127.0.0.1:9",  # where nobody is
            "WALLET_SMS_URL": gateway.url,
            "WALLET_SMTP_HOST": "127.0.0.1",
            "WALLET_SMTP_PORT": str(mail.port),
            "WALLET_SMTP_TLS": "none",
            "WALLET_SMTP_USERNAME": smtp_login[0],
        }
        _make_staff(folder, variables)
        with server("serve", "--workers", "2", folder=folder, **variables) as serve:
            serve.wait_until_live()
            async with httpx.AsyncClient(base_url=serve.url, timeout=GIVE_UP_SECONDS) as client:
                visit = Visit(client, mail, gateway)
                await _everything(visit)
                elsewhere = await _what_else_is_kept(database_url, servers.redis_url, folder)
                token = {"Authorization": f"Bearer {CONFIGURED['WALLET_METRICS_TOKEN']}"}
                metrics = await visit.ask("GET", "/metrics", headers=token)
                elsewhere |= {"metrics": metrics.text, "refusals": "\n".join(visit.refusals)}
    urls = {urlsplit(url).password or "" for url in (database_url, servers.redis_url)}
    stored = {row["secret"] for row in await _execute(database_url, _STORED)}
    assert len(stored) >= 6
    yield Log(
        text=(folder / "output").read_text(),
        visit=visit,
        elsewhere=elsewhere,
        secrets=visit.secrets | urls | stored | set(CONFIGURED.values()) - {""},
    )
    await _execute(servers.database_url, "DROP DATABASE logged WITH (FORCE)")


async def _what_else_is_kept(database_url: str, redis_url: str, folder: Path) -> dict[str, str]:
    """All that is in Redis, the messages, and how the processes were started."""
    with Redis.from_url(redis_url, decode_responses=True, encoding_errors="replace") as redis:
        readers: dict[str, Callable[[str], Any]] = {
            "string": redis.get,
            "hash": redis.hgetall,
            "list": lambda key: redis.lrange(key, 0, -1),
            "set": redis.smembers,
            "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
            "stream": redis.xrange,
        }
        kept = [f"{key} {readers[str(redis.type(key))](key)}" for key in redis.scan_iter()]
    messages = await _execute(database_url, "SELECT to_jsonb(message)::text AS row FROM message")
    return {
        "redis": "\n".join(kept),
        "messages": "\n".join(each["row"] for each in messages),
        "command lines": "\n".join(inside(folder).values()),
    }


async def _everything(visit: Visit) -> None:
    assert (await visit.ask("GET", "/health/ready")).status_code == 200
    assert (await visit.ask("GET", "/metrics", headers={"Authorization": "Bearer wrong"})).status_code == 401
    token = {"Authorization": f"Bearer {CONFIGURED['WALLET_METRICS_TOKEN']}"}
    assert (await visit.ask("GET", "/metrics", headers=token)).status_code == 200
    ann = await visit.join(ANN, PHONES[0], ANNS_PASSWORD)
    ben = await visit.join(BEN, PHONES[1], BENS_PASSWORD)
    await visit.join(TROUBLE_EMAIL, PHONES[2], CAS_PASSWORD)
    await visit.post("/users/create/", {"email": ANN, "phone_number": PHONES[0], "password": BENS_PASSWORD})
    await visit.renew()
    await visit.move_money(ann, ben)
    await visit.show_face(ann)
    await visit.change_password(ann, ANN, ANNS_PASSWORD, ANNS_NEXT_PASSWORD)
    ann = await visit.sign_in(PHONES[0], ANNS_NEXT_PASSWORD)
    await visit.misplace(ann, ANNS_NEXT_PASSWORD)
    await visit.look_around_as_staff("ayan")
    await visit.hang_up(ANNS_NEXT_PASSWORD)


def _make_staff(folder: Path, variables: dict[str, str]) -> None:
    subprocess.run(
        [WALLET, "staff", "create", "--username", "ayan", "--email", "ayan@wallet-test.kz", "--password-stdin"],
        cwd=folder,
        env=environment(variables),
        input=STAFF_PASSWORD.encode(),
        check=True,
        timeout=GIVE_UP_SECONDS,
    )


async def _execute(url: str, statements: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        if statements.lstrip().startswith("SELECT"):
            return list(await connection.fetch(statements))
        await connection.execute(statements)
        return []
    finally:
        await connection.close()


def test_every_line_of_every_process_is_one_json_object_with_the_same_beginning(log: Log) -> None:
    for line in log.lines:
        assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
        assert line["level"] in {"debug", "info", "warning", "error"}
    loggers = {line["logger"] for line in log.lines}
    assert loggers >= {
        "app.commands.serve",
        "app.requests",
        "app.http.problems",
        "actors.engine.settlement",
    }
    assert loggers >= {"tasks.worker", "tasks.messages.delivery", "tasks.job_log", "tasks.rates.fetching"}


def test_no_password_code_token_hash_or_key_is_anywhere(log: Log) -> None:
    assert len(log.secrets) > 50
    for secret in sorted(log.secrets):
        # A code is six digits, which a number of another kind may contain.
        found = re.search(rf"(?<![0-9A-Za-z]){re.escape(secret)}(?![0-9A-Za-z])", log.text)
        assert found is None, log.text[max(0, found.start() - 300) : found.end() + 50]
    for beginning in ("eyJ", "$argon2", "pbkdf2_", "Bearer ", "Basic "):
        assert beginning not in log.text


@pytest.mark.parametrize("place", ["redis", "messages", "command lines", "metrics", "refusals"])
def test_nor_is_any_of_it_in_another_place(log: Log, place: str) -> None:
    text = log.elsewhere[place]
    assert len(text) > 100
    for secret in sorted(log.secrets):
        found = re.search(rf"(?<![0-9A-Za-z.]){re.escape(secret)}(?![0-9A-Za-z])", text)
        assert found is None, text[max(0, found.start() - 300) : found.end() + 50]


def test_nobodys_address_or_number_is_anywhere(log: Log) -> None:
    for address in (ANN, BEN, TROUBLE_EMAIL, *PHONES):
        assert address not in log.text


def test_where_there_is_a_gateway_nobody_is_warned_that_there_is_none(log: Log) -> None:
    assert "WALLET_SMS_URL" not in log.text


def test_every_request_has_exactly_one_line(log: Log) -> None:
    lines = [line for line in log.lines if line["event"] == "request"]
    asked = Counter((each.id, each.method, each.status) for each in log.visit.asked)
    assert max(asked.values()) == 1
    told = Counter((line["request_id"], line["method"], line["status"]) for line in lines)
    # Beside them there are only the questions whether the server is up, of the supervisor and of this test.
    others = told - asked
    assert asked - told == Counter()
    assert {line["route"] for line in lines if line["request_id"] in {id for id, _, _ in others}} == {"/health/live"}
    assert set(others.values()) == {1}


def test_a_requests_line_says_who_asked_for_what_and_how_long_it_took(log: Log) -> None:
    (deposit,) = (line for line in log.under("deposit of ann") if line["event"] == "request")
    assert deposit["level"] == "info"
    assert deposit["user_id"] == log.visit.noted[f"user id of {ANN}"]
    assert (deposit["route"], deposit["client"]) == ("/users/wallets/{id}/deposit", "127.0.0.1")
    assert isinstance(deposit["ms"], float)
    assert round(deposit["ms"], 1) == deposit["ms"] > 0
    (registration,) = (line for line in log.under(f"registration of {ANN}") if line["event"] == "request")
    assert "user_id" not in registration


def test_a_line_names_the_route_and_never_the_path(log: Log) -> None:
    lines = [line for line in log.lines if line["event"] == "request"]
    for line in lines:
        assert re.fullmatch(r"unmatched|(/api/v1)?(/([a-z]+|\{[a-z]+\}))+", line["route"]), line
    assert {line["route"] for line in lines} >= {"unmatched", "/admin", "/media/{name}", "/users/wallets/{id}/transfer"}
    assert {line["level"] for line in lines if line["route"] in {"/health/live", "/health/ready"}} == {"debug"}


def test_what_failed_here_is_told_with_its_traceback_under_the_requests_id(log: Log) -> None:
    for note in ("trouble", f"confirmation of {TROUBLE_EMAIL}"):
        told = log.under(note)
        (request,) = (line for line in told if line["event"] == "request")
        assert (request["status"], request["level"]) == (500, "warning")
        (error,) = (line for line in told if line["level"] == "error")
        (raised, *_) = error["exception"]
        assert raised["exc_type"] == "CheckViolationError"
        assert re.fullmatch(r'new row for relation "\w+" violates check constraint "stumble"', raised["exc_value"])
        assert any(frame["filename"].endswith("asyncpg/connection.py") for frame in raised["frames"])
        assert set(raised["frames"][0]) == {"filename", "lineno", "name"}


def test_what_the_engine_says_belongs_to_no_request(log: Log) -> None:
    told = [line for line in log.lines if line["logger"] == "actors.engine.settlement"]
    assert told
    assert not any("request_id" in line for line in told)


def test_who_hangs_up_has_a_line_and_is_no_error(log: Log) -> None:
    (line,) = (line for line in log.lines if line.get("request_id") == GONE)
    assert (line["status"], line["level"], line["route"]) == (499, "info", "/users/create")


def test_the_id_of_a_registration_is_found_again_on_the_workers_lines_about_its_mail(log: Log) -> None:
    told = [line for line in log.under(f"registration of {ANN}") if line["logger"] == "tasks.messages.delivery"]
    sent = {(line["event"], line["level"], line["template"], line["channel"], line["attempts"]) for line in told}
    said = ("a message was sent", "info", "registration_code")
    assert sent == {(*said, "email", 1), (*said, "sms", 1)}
    assert all(re.fullmatch(r"[0-9a-f-]{36}", line["message_id"]) for line in told)
    jobs = [line for line in log.under(f"registration of {ANN}") if line["event"] == "job"]
    assert {(line["job"], line["status"]) for line in jobs} == {("deliver", "complete"), ("deliver_sms", "complete")}
    assert all(line["ms"] > 0 for line in jobs)


def test_a_job_that_found_nothing_to_do_is_only_told_at_debug(log: Log) -> None:
    jobs = [line for line in log.lines if line["event"] == "job" and line["job_id"] == "cron:deliver"]
    assert "debug" in {line["level"] for line in jobs}
