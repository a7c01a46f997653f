"""Whatever the OpenAPI document allows, and what it does not: every answer is one that the document promises."""

import asyncio
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from actors.engine.background import in_background
from app.people.codes import Codes, Purpose
from app.people.passwords.hashing import Passwords
from app.people.registration import Registration
from app.telemetry.metrics import FRESH_SECONDS
from db.tables import RefreshToken, User
from tasks.settings import DEVELOPMENT_SECRET
from tests.helpers.postgres import assert_audit
from tests.helpers.prices import publish_rates
from tests.helpers.users import PASSWORD, Person, register
from tests.helpers.wallet_processes import api_servers

EXAMPLES = 6
# `positive_data_acceptance` wants a success for all that the document allows. A code that is wrong, a wallet that is
# empty and a key that was used for something else are allowed by it, and refused all the same.
LEFT_OUT = "positive_data_acceptance"
NEXT_PASSWORD = "quite another long password"
ELSEWHERE = uuid4()


def run_schemathesis(url: str, token: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """All its checks but one, on every operation, with the same examples each time."""
    return subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/docs/openapi.json"),
            *("--url", url, "--header", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--exclude-checks", LEFT_OUT, "--seed", "20261124"),
            *("--max-examples", str(EXAMPLES), "--no-color"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )


class Known:
    """What most values are drawn from, so that requests get behind the door: the file that schemathesis looks for."""

    def __init__(self) -> None:
        self._lists: dict[str, list[str]] = {}
        self._by_operation: dict[str, dict[str, str]] = {"": {}}

    def add(self, parameter: str, *values: str, operation: str = "") -> None:
        """Values of a parameter, of one operation or of all that have no own ones."""
        name = f"list{len(self._lists)}"
        self._lists[name] = list(values)
        self._by_operation.setdefault(operation, {})[parameter] = name

    def toml(self) -> str:
        """The file."""
        lines: list[str] = []
        for operation, bound in self._by_operation.items():
            if operation:
                lines += ["[[operations]]", f'include-name = "{operation}"', "[operations.parameters]"]
            else:
                lines += ["[parameters]"]
            lines += [f'"{each}" = {{ dictionary = "{name}", probability = 0.8 }}' for each, name in bound.items()]
        for name, values in self._lists.items():
            lines += [f"[dictionaries.{name}]", f"values = {msgspec.json.encode(values).decode()}"]
        return "\n".join(lines)


async def everything_known(client: httpx.AsyncClient, redis: Redis, alice: Person) -> Known:
    """Wallets, money, tokens, passwords and codes, so that every operation can succeed."""
    known, bob, carol = Known(), await register(client), await register(client)
    passwords = Passwords()
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    await User.update({User.password_hash: hashed}, force=True)
    people = {row["id"]: row for row in await User.select()}

    mine = [await alice.open_wallet(holding="1000.00"), await alice.open_wallet("USD", holding="500.00")]
    theirs = [await bob.open_wallet(), await bob.open_wallet("EUR")]
    known.add("path.id", *(str(wallet.id) for wallet in mine))
    known.add("body.amount", "0.01", "1.00")
    for body in ("body", "body.transfers[*]"):
        known.add(f"{body}.wallet_number", *(wallet.number for wallet in theirs))
    known.add("body.transfers[*].amount", "0.01", "1.00")
    known.add("body.email", "eve@example.com", people[bob.user_id]["email"])
    known.add("body.phone_number", people[bob.user_id]["phone_number"])
    known.add("body.password", PASSWORD)
    known.add("body.new_password", NEXT_PASSWORD)

    async def tokens(of: Person) -> str:
        body = {"phone_number": people[of.user_id]["phone_number"], "password": PASSWORD}
        token: str = (await client.post("/users/token/create/", json=body)).json()["refresh"]
        return token

    for operation in ("POST /users/token/refresh", "POST /users/token/revoke"):
        known.add("body.refresh", *[await tokens(bob) for _ in range(5)], operation=operation)
    known.add("path.id", str(ELSEWHERE), operation="DELETE /users/sessions/{id}")

    eve = Registration(user_id=uuid4(), email="eva@example.com", phone_number="+77012223344", password_hash=hashed)
    codes = Codes(redis, DEVELOPMENT_SECRET)
    for operation, purpose, pending, owner in (
        ("POST /users/verify", "registration", msgspec.json.encode(eve), None),
        ("PATCH /users/password/verify", "password", hashed.encode(), alice.user_id),
        ("POST /users/password/reset/verify", "reset", carol.user_id.bytes, None),
    ):
        await know_a_code(known, redis, codes, operation, purpose, pending, owner)
    return known


async def know_a_code(
    known: Known, redis: Redis, codes: Codes, operation: str, purpose: Any, pending: bytes, owner: UUID | None
) -> None:
    """One that is good however often it is guessed wrongly before."""
    kind: Purpose = purpose
    session, code = await codes.open(kind, pending, owner=owner)
    async for key in redis.scan_iter(match=f"wallet:code:{kind}:*{session.session_id}"):
        await redis.hset(key, mapping={"tries": -1_000_000})  # type: ignore[misc]  # its types are of both clients
    known.add("body.session_id", str(session.session_id), operation=operation)
    known.add("body.code", code, operation=operation)


async def sign_in_elsewhere(user_id: UUID) -> None:
    """Whenever she ends her other sessions, there is one again: no document can say in which order she does what."""
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    await RefreshToken(family=ELSEWHERE, user=user_id, token_hash="none", expires_at=expires_at).save()
    await asyncio.sleep(0.05)


async def successes(client: httpx.AsyncClient) -> Counter[str]:
    """How often each operation was answered with a success, by the server's own count."""
    await asyncio.sleep(FRESH_SECONDS)
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            of = sample.labels
            if sample.name == "wallet_http_request_duration_seconds_count" and of["status_code"].startswith("2"):
                counted[f"{of['method']} {of['path']}"] += int(sample.value)
    return counted


async def test_schemathesis_finds_nothing(database: str, redis_url: str, tmp_path: Path) -> None:
    await publish_rates(redis_url)
    with api_servers(1, database_url=database, redis_url=redis_url, folder=tmp_path) as (api,):
        async with httpx.AsyncClient(base_url=api.url, timeout=60) as client, Redis.from_url(redis_url) as redis:
            alice = await register(client)
            (tmp_path / "schemathesis.toml").write_text((await everything_known(client, redis, alice)).toml())
            document = (await client.get("/docs/openapi.json")).json()
            assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
            before = await successes(client)
            async with in_background(partial(sign_in_elsewhere, alice.user_id)):
                done = await asyncio.to_thread(run_schemathesis, api.url, alice.token, tmp_path)
            assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
            followed = re.search(r"API Links: +(\d+) covered", done.stdout)
            assert followed, "the stateful phase has links to follow"
            assert int(followed[1]) >= 5
            operations = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
            made = await successes(client) - before
            assert operations - made.keys() == set(), "operations that were never let do what they are for"
    await assert_audit()
