"""What Prometheus is told: each figure after something that must have moved it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from app.settings import Settings
from app.telemetry import metrics
from db.tables import Message
from tasks.metrics import Metrics
from tasks.sweep import Sweep, write
from tests.helpers.banks import NOBODY_LISTENS
from tests.helpers.prices import publish_rates
from tests.helpers.users import register

Figures = Mapping[tuple[str, str], float]

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FRESH_SECONDS", 0.0)


def figures(text: str) -> Figures:
    """Samples by name and by the values of their labels, in the order of the labels' names."""
    return {
        (sample.name, " ".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def ask(client: httpx.AsyncClient) -> Figures:
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return figures(answer.text)


def rise(before: Figures, after: Figures, name: str, labels: str = "") -> float:
    """By how much a counter has risen: the registry is that of the process, and other tests count in it too."""
    return after.get((name, labels), 0.0) - before.get((name, labels), 0.0)


async def test_orders_are_counted_by_kind_and_by_what_came_of_them(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    one, other = await alice.open_wallet(), await bob.open_wallet()
    before = await ask(client)
    await one.deposit("100.00")
    for _ in range(3):
        await one.send("10.00", other, key="rent")
    await one.withdraw("500.00")
    await one.send("1.00", "4000000000")
    after = await ask(client)
    for labels, orders in (
        ("deposit done", 1),
        ("transfer done", 1),
        ("transfer replayed", 2),
        ("withdraw insufficient_funds", 1),
        ("transfer wallet_not_found", 1),
    ):
        assert rise(before, after, "wallet_orders_total", labels) == orders, labels
    # Each order alone is a batch of one, and passes every stage; what was refused or replayed saves nothing.
    assert rise(before, after, "wallet_batch_orders_count") == rise(before, after, "wallet_batch_orders_sum") == 6
    assert rise(before, after, "wallet_mailbox_seconds_count") == 6
    for stage, batches in (("lock", 6), ("load", 6), ("rules", 6), ("save", 2), ("commit", 6)):
        assert rise(before, after, "wallet_stage_seconds_count", stage) == batches, stage
    transfer = "POST /users/wallets/{id}/transfer"
    assert rise(before, after, "wallet_http_request_duration_seconds_count", f"{transfer} 201") == 3
    assert rise(before, after, "wallet_http_request_duration_seconds_count", f"{transfer} 404") == 1
    assert after["wallet_http_requests_in_progress", ""] == 1  # the one that asks


async def test_the_orders_of_a_bulk_are_counted_each_by_what_came_of_it(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client), await register(client)
    one, other = await alice.open_wallet(holding="100"), await bob.open_wallet()
    before = await ask(client)
    for _ in range(2):
        await one.send_all([(other, "1"), (other, "1"), (other, "1000"), (one, "1")], key="salaries")
    await one.send_all([(other, "1"), (other, "1000")], atomic=True)
    after = await ask(client)
    for outcome, orders in (
        ("done", 2),
        ("replayed", 2),
        ("insufficient_funds", 2),
        ("same_wallet", 2),
        ("bulk_refused", 2),
    ):
        assert rise(before, after, "wallet_orders_total", f"transfer {outcome}") == orders, outcome
    assert rise(before, after, "wallet_batch_orders_sum") == 10
    assert rise(before, after, "wallet_batch_orders_count") == rise(before, after, "wallet_mailbox_seconds_count") == 3
    while (await ask(client))["wallet_mailbox_orders", ""]:
        pass  # the bank looks ten times a second
    # Nobody's wallet, number or key is a label.
    assert not any(secret in labels for _, labels in after for secret in (one.number, str(one.id), "rent"))


async def test_the_world_is_told_as_it_is(client: httpx.AsyncClient, settings: Settings) -> None:
    told = await ask(client)
    states = {part: told["wallet_part_up", part] for part in ("database", "redis", "rates", "worker")}
    assert states == {"database": 1, "redis": 1, "rates": 0, "worker": 0}
    assert ("wallet_rate_age_seconds", "") not in told
    assert ("wallet_worker_heartbeat_age_seconds", "") not in told
    assert told["wallet_fee_sweep_running", ""] == told["wallet_fee_sweep_due", ""] == 0

    now = datetime.now(UTC)
    for number, due_at in enumerate(
        (now - timedelta(hours=2), now - timedelta(hours=1), now + timedelta(hours=1), None)
    ):
        await Message(event=f"event {number}", template="welcome", next_attempt_at=due_at).save()
    sweep = Sweep(started_at=now, updated_at=now, due=30, walked=20, charged=15, blocked=5)
    async with Redis.from_url(settings.redis_url) as redis:
        await write(redis, sweep)
        told = await ask(client)
        assert (told["wallet_mail_backlog", "due"], told["wallet_mail_backlog", "later"]) == (2, 1)
        assert 7200 <= told["wallet_mail_oldest_due_seconds", ""] < 7260
        shown = [told[f"wallet_fee_sweep_{each}", ""] for each in ("running", "due", "walked", "charged", "blocked")]
        assert shown == [1, 30, 20, 15, 5]
        sweep.finished_at = now
        await write(redis, sweep)
        assert (await ask(client))["wallet_fee_sweep_running", ""] == 0


async def test_codes_are_told_apart_from_letters_and_what_was_given_up_says_why(client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)

    async def owe(template: str, *, channel: str = "email", ago: timedelta, given_up_for: str | None = None) -> None:
        await Message(
            event=str(uuid4()),
            template=template,
            channel=channel,
            sealed=None if given_up_for or not template.endswith("_code") else b"sealed",
            created_at=now - ago,
            next_attempt_at=None if given_up_for else now - ago,
            given_up_for=given_up_for,
            given_up_at=now - ago if given_up_for else None,
        ).save()

    for _ in range(3):  # a fee day
        await owe("wallet_blocked", ago=timedelta(hours=1))
    told = await ask(client)
    assert [told["wallet_code_oldest_seconds", channel] for channel in ("email", "sms")] == [0, 0]
    await owe("registration_code", ago=timedelta(minutes=2))
    await owe("registration_code", channel="sms", ago=timedelta(minutes=1))
    await owe("reset_code", ago=timedelta(minutes=3), given_up_for="expired")
    await owe("wallet_blocked", ago=timedelta(minutes=3), given_up_for="attempts")
    await owe("welcome", ago=timedelta(minutes=59), given_up_for="recipient")
    await owe("welcome", ago=timedelta(minutes=61), given_up_for="recipient")
    told = await ask(client)
    ages = [told["wallet_code_oldest_seconds", channel] for channel in ("email", "sms")]
    assert [int(age) // 60 for age in ages] == [2, 1]
    given_up = {labels: count for (name, labels), count in told.items() if name == "wallet_mail_given_up" and count}
    assert given_up == {"email code expired": 1, "email letter attempts": 1, "email letter recipient": 1}


class TestWithRates:
    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        await publish_rates(settings.redis_url)
        return settings

    async def test_the_age_of_the_rates_is_told(self, client: httpx.AsyncClient) -> None:
        told = await ask(client)
        assert told["wallet_part_up", "rates"] == 1
        assert told["wallet_rate_age_seconds", ""] >= 0


@pytest.mark.impatient
class TestWithoutRedis:
    """Nobody listens there."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, redis_url=NOBODY_LISTENS)

    async def test_it_is_said_and_the_rest_is_told_all_the_same(self, client: httpx.AsyncClient) -> None:
        alice = await register(client)
        before = await ask(client)
        await (await alice.open_wallet()).deposit("5.00")
        told = await ask(client)
        assert rise(before, told, "wallet_orders_total", "deposit done") == 1
        assert (told["wallet_part_up", "redis"], told["wallet_part_up", "database"]) == (0, 1)
        assert told["wallet_redis_degraded", ""] == 1
        assert ("wallet_fee_sweep_due", "") not in told
        assert told["wallet_mail_backlog", "due"] == 0


class TestWithAToken:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, metrics=Metrics(token="for prometheus only"))

    async def test_only_who_has_it_is_told(self, client: httpx.AsyncClient, app: Litestar) -> None:
        person = await register(client)
        for header in (None, "Bearer for prometheus onl", "for prometheus only", f"Bearer {person.token}", "\u00e9"):
            headers = {"Authorization": header.encode()} if header else {}
            answer = await client.get("/metrics", headers=headers)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), header
            assert "wallet_" not in answer.text
        answer = await client.get("/metrics/", headers={"Authorization": "Bearer for prometheus only"})
        assert answer.status_code == 200
        assert "wallet_part_up" in answer.text


def documented() -> set[str]:
    """The metrics in the table of docs/metrics.md."""
    told: set[str] = set()
    for row in re.findall(r"^\| (`wallet_.*?) \|", (DOCS / "metrics.md").read_text(), re.MULTILINE):
        first, *others = re.findall(r"`(\w+)`", row)
        told |= {first} | {first.rsplit("_", 1)[0] + other for other in others}
    return told


async def test_the_documentation_tells_of_every_metric_and_of_no_other(client: httpx.AsyncClient) -> None:
    await client.get("/users/")
    answer = (await client.get("/metrics")).text
    types = re.findall(r"^# TYPE (wallet_\w+)", answer, re.MULTILINE)
    known = {name for name in types if not name.endswith("_created")}
    # Nothing is there to be told.
    known |= {"wallet_rate_age_seconds", "wallet_worker_heartbeat_age_seconds"}
    known |= {"wallet_audit_holds", "wallet_audit_age_seconds"}
    assert documented() == known


@pytest.mark.parametrize("file", ["grafana/dashboards/wallet.json", "alerts.yml"])
def test_the_dashboard_and_the_alerts_ask_for_no_metric_that_is_not_there(file: str) -> None:
    asked = set(re.findall(r"\bwallet_\w+", (DOCS / "deploy" / file).read_text()))
    assert len(asked) >= 10
    parts = {f"{name}{part}" for name in documented() for part in ("", "_bucket", "_sum", "_count")}
    assert asked <= parts, asked - parts


async def test_what_the_alerts_select_is_told(client: httpx.AsyncClient) -> None:
    """A label or a value that is misspelt selects nothing, and Prometheus says nothing of it."""
    alerts = (DOCS / "deploy/alerts.yml").read_text()
    selected = re.findall(r"(wallet_\w+)\{([^}]*)\}", alerts)
    assert ("wallet_mail_given_up", 'kind="code", reason="recipient"') in selected
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    told = [(sample.name, sample.labels.items()) for family in families for sample in family.samples]
    names = {name for name, _ in told}  # without what nothing has happened to yet
    assert {"wallet_mail_given_up", "wallet_messages_sent_total", "wallet_part_up"} <= names
    for name, matchers in selected:
        labels = set(re.findall(r'(\w+)="([^"]*)"', matchers))
        if name in names and not name.startswith("wallet_http_"):
            assert any(each == name and labels <= set(items) for each, items in told), (name, matchers)
