"""`GET /metrics` for Prometheus: what requests and the engine count, and what the state of the world is."""

import asyncio
import hmac
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import product
from math import inf
from time import monotonic
from typing import Any, get_args

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.seldom import Seldom
from app.auth.tokens import NotAuthenticated
from app.telemetry.health import PROBE_SECONDS, HealthChecks
from app.telemetry.shared_metrics import FOLDER_VARIABLE
from db.audit import last_result
from db.clocks import CLOCKS_DIFFER
from db.engine import UNAVAILABLE
from db.tables import Message
from tasks.clock import in_doubt
from tasks.fees import overdue
from tasks.heartbeat import heartbeat_age
from tasks.messages.delivery import CHANNELS, Reason
from tasks.messages.templates import CODE_TEMPLATES
from tasks.sweep import Sweep, last_sweep

# Whoever asks more often gets the last answer again: a fresh answer costs a few queries.
FRESH_SECONDS = 1.0
# A sweep that has not been heard of for so long does not run any more.
SWEEP_ALIVE = timedelta(seconds=30)

_BACKLOG = """
SELECT count(*) FILTER (WHERE next_attempt_at <= now()) AS due,
    count(*) FILTER (WHERE next_attempt_at > now()) AS later,
    greatest(0, extract(epoch FROM now() - min(next_attempt_at)))::float AS oldest,
    extract(epoch FROM now() - min(created_at) FILTER (WHERE sealed IS NOT NULL AND channel = 'email'))::float AS email,
    extract(epoch FROM now() - min(created_at) FILTER (WHERE sealed IS NOT NULL AND channel = 'sms'))::float AS sms
FROM message WHERE next_attempt_at IS NOT NULL
"""
# A message is given up a day after it was written, or later where no worker was there.
_GIVEN_UP = """
SELECT channel, CASE WHEN template = ANY({}::text[]) THEN 'code' ELSE 'letter' END AS kind, given_up_for AS reason,
    count(*) AS messages
FROM message WHERE next_attempt_at IS NULL AND sent_at IS NULL
    AND created_at > now() - interval '7 days' AND given_up_at > now() - interval '1 hour'
GROUP BY 1, 2, 3
"""

Family = GaugeMetricFamily

log = logging.getLogger(__name__)
_left_out = Seldom(log, "some metrics are left out: %r")


class World:
    """What nobody counts as it happens, since it is a state of the world: read when Prometheus asks."""

    def __init__(self, redis: Redis, health_checks: HealthChecks) -> None:
        self._redis = redis
        self._health_checks = health_checks

    async def families(self) -> list[Family]:
        """The metrics of this moment; those of a part that does not answer are left out."""
        found = await asyncio.gather(
            *(self._parts(), self._sweep(), self._mail(), self._audit(), self._fees(), self._clock()),
            return_exceptions=True,
        )
        families: list[Family] = []
        for each in found:
            if isinstance(each, list):
                families += each
            elif isinstance(each, asyncio.CancelledError):
                raise each
            elif not isinstance(each, (RedisError, *UNAVAILABLE)):
                _left_out.warn(each)  # whatever it is, the other numbers are wanted all the more
        return families

    async def _parts(self) -> list[Family]:
        up = Family("wallet_part_up", "1 where a part that the API needs is there.", labels=["part"])
        for part, check in (await self._health_checks.run()).checks.items():
            up.add_metric([part], float(check.status == "ok"))
        families = [up]
        if rates := self._health_checks.board.current():
            age = datetime.now(UTC) - rates.as_of
            seconds = age.total_seconds() if age >= -CLOCKS_DIFFER else inf  # of the future: it may be of any age
            families.append(_gauge("wallet_rate_age_seconds", "Since the moment of the rates.", seconds))
        return families

    async def _sweep(self) -> list[Family]:
        async with asyncio.timeout(PROBE_SECONDS):
            beaten = await heartbeat_age(self._redis)
            sweep = await last_sweep(self._redis) or _NEVER
        # Its moment lies in the future where a clock was set back.
        running = sweep.finished_at is None and abs(datetime.now(UTC) - sweep.updated_at) < SWEEP_ALIVE
        families = [
            _gauge("wallet_fee_sweep_running", "1 while fees are being charged.", float(running)),
            _gauge("wallet_fee_sweep_due", "Wallets that the last sweep found due.", sweep.due),
            _gauge("wallet_fee_sweep_walked", "Wallets of it that have had their turn.", sweep.walked),
            _gauge("wallet_fee_sweep_charged", "Fees that it charged.", sweep.charged),
            _gauge("wallet_fee_sweep_blocked", "Wallets that it blocked.", sweep.blocked),
        ]
        if beaten is not None:
            families.append(
                _gauge("wallet_worker_heartbeat_age_seconds", "Since a worker's heartbeat.", beaten.total_seconds())
            )
        return families

    async def _fees(self) -> list[Family]:
        async with asyncio.timeout(PROBE_SECONDS):
            late = await overdue()
        return [
            _gauge("wallet_fees_overdue", "Wallets with a fee that should have been charged.", late.wallets),
            _gauge("wallet_fees_overdue_seconds", "For how long the oldest of these has been due.", late.seconds),
        ]

    async def _mail(self) -> list[Family]:
        async with asyncio.timeout(PROBE_SECONDS):
            (row,) = await Message.raw(_BACKLOG)
            given_up = await Message.raw(_GIVEN_UP, list(CODE_TEMPLATES))
        backlog = Family("wallet_mail_backlog", "Messages to be sent: due, or to be tried later.", labels=["state"])
        for state in ("due", "later"):
            backlog.add_metric([state], row[state])
        waiting = Family("wallet_code_oldest_seconds", "Since the oldest code that is not out yet.", labels=["channel"])
        for channel in CHANNELS:
            waiting.add_metric([channel], max(row[channel] or 0.0, 0.0))
        lost = Family(
            "wallet_mail_given_up", "Messages given up in the last hour.", labels=["channel", "kind", "reason"]
        )
        counted = {(each["channel"], each["kind"], each["reason"]): each["messages"] for each in given_up}
        for labels in product(CHANNELS, ("code", "letter"), get_args(Reason)):
            lost.add_metric(labels, counted.get(labels, 0))
        oldest = _gauge("wallet_mail_oldest_due_seconds", "For how long the oldest was due.", row["oldest"])
        return [backlog, oldest, waiting, lost]

    async def _audit(self) -> list[Family]:
        async with asyncio.timeout(PROBE_SECONDS):
            kept = await last_result()
        if kept is None:
            return []
        # Dated in the future it may be of any age: what asks for a recent one must not be content.
        age = inf if kept.age is None else kept.age.total_seconds()
        return [
            _gauge("wallet_audit_holds", "1 where the ledger held when it was last audited.", float(kept.report.ok)),
            _gauge("wallet_audit_age_seconds", "Since the last audit; +Inf where it is dated in the future.", age),
        ]

    async def _clock(self) -> list[Family]:
        async with asyncio.timeout(PROBE_SECONDS):
            doubted = await in_doubt()
        return [
            _gauge("wallet_clock_in_doubt", "1 while upkeep deletes nothing, since a clock jumped.", float(doubted))
        ]


_NEVER = Sweep(started_at=datetime.fromtimestamp(0, UTC), updated_at=datetime.fromtimestamp(0, UTC))


def metrics_route(world: World, token: str) -> HTTPRouteHandler:
    """`GET /metrics`, for whoever has the token, where there is one."""
    known = (-FRESH_SECONDS, b"")
    asking = asyncio.Lock()

    async def told() -> bytes:
        nonlocal known
        async with asking:
            if monotonic() - known[0] >= FRESH_SECONDS:
                families = await world.families()
                known = (monotonic(), await asyncio.to_thread(_text, families))
        return known[1]

    @get("/metrics", include_in_schema=False)
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Everything that is counted, of all processes that share a folder."""
        sent = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            raise NotAuthenticated("Send the token of WALLET_METRICS_TOKEN: `Authorization: Bearer <token>`.")
        return Response(await told(), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})

    return metrics


class _Told:
    """Gives Prometheus' client the families that were added up already."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _text(families: list[Family]) -> bytes:
    shared = os.environ.get(FOLDER_VARIABLE)
    counted = CollectorRegistry() if shared else REGISTRY
    told = CollectorRegistry()
    told.register(_Told(families))
    try:
        if shared:
            MultiProcessCollector(counted, shared)  # type: ignore[no-untyped-call]
        return generate_latest(counted) + generate_latest(told)
    except (OSError, ValueError) as error:  # the folder is gone, or a file of it is half written
        _left_out.warn(error)
        return generate_latest(told)


def _gauge(name: str, meaning: str, value: float) -> Family:
    return Family(name, meaning, value=value)
