"""
What the engine tells of itself: numbers for Prometheus, and the stages of the road for whoever traces.

Counted by batch where that can be: what is counted by order costs every order a microsecond or two.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from time import perf_counter, time_ns
from types import TracebackType
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram

from actors.engine.mailbox import Mail, Passed
from actors.orders import Order, Receipt
from actors.refusals import Refusal

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)

_ORDERS = Counter("wallet_orders", "Orders that were answered.", ["kind", "outcome"])
_BATCH = Histogram("wallet_batch_orders", "Orders in one batch.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
_MAILBOX = Histogram("wallet_mailbox_seconds", "How long an order waited in its mailbox.", buckets=_SECONDS)
_STAGE = Histogram(
    "wallet_stage_seconds", "How long a batch was at one stage of its road.", ["stage"], buckets=_SECONDS
)
_WAITING = Gauge("wallet_mailbox_orders", "Orders that wait in mailboxes.", multiprocess_mode="livesum")
_MISSED = Counter("wallet_wallets_missed", "Wallets that a batch needed and another process held.")
_HELD = Counter("wallet_rows_held", "Wallets whose rows somebody else had locked when a batch needed them.")
_IN_DOUBT = Counter("wallet_in_doubt_orders", "How orders ended whose COMMIT had lost its connection.", ["outcome"])
_DEGRADED = Gauge("wallet_redis_degraded", "1 where no wallet is locked in Redis.", multiprocess_mode="livemax")

StageName = Literal["lock", "load", "rules", "save", "commit"]
InDoubt = Literal["committed", "repeated", "unknown"]

_stages: Final = {name: _STAGE.labels(name) for name in ("lock", "load", "rules", "save", "commit")}
_outcomes: dict[tuple[type, str], Counter] = {}


class Stage:
    """`with Stage("load", mails):` times one stage of a batch, and notes it for each order that is traced."""

    __slots__ = ("_mails", "_name", "_started", "_started_ns")

    def __init__(self, name: StageName, mails: Iterable[Mail]) -> None:
        self._name = name
        self._mails = mails

    def __enter__(self) -> None:
        self._started_ns = time_ns()
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _stages[self._name].observe(perf_counter() - self._started)
        for mail in self._mails:
            if mail.road is not None:
                mail.road.append(Passed(self._name, self._started_ns, time_ns()))


class Moment:
    """When a batch has been taken out of the mailboxes."""

    __slots__ = ("_ns", "_seconds")

    def __init__(self) -> None:
        self._seconds, self._ns = asyncio.get_running_loop().time(), time_ns()

    def taken(self, batch: list[Mail], deadline_seconds: float) -> None:
        """Count a batch, now that it has its locks: what is given back for want of one has not been taken yet."""
        _BATCH.observe(sum(len(mail.orders) for mail in batch))
        for mail in batch:
            waited = self._seconds - (mail.deadline - deadline_seconds)
            _MAILBOX.observe(waited)
            if mail.road is not None:
                mail.road.append(Passed("mailbox", self._ns - int(waited * 1e9), self._ns))


def answered(orders: Sequence[Order], answers: Sequence[Receipt | BaseException]) -> None:
    """Somebody has been told what came of each of these orders, which are all of one kind."""
    kind = type(orders[0])
    if len(answers) == 1:  # nearly always
        _counter(kind, _outcome(answers[0])).inc()
        return
    for outcome, number in Tally(map(_outcome, answers)).items():
        _counter(kind, outcome).inc(number)


def _outcome(answer: Receipt | BaseException) -> str:
    match answer:
        case Receipt():
            return "replayed" if answer.replayed else "unchanged" if answer.unchanged else "done"
        case Refusal():
            return answer.code
        case asyncio.CancelledError():
            return "abandoned"  # whoever asked has gone; the order may have been carried out
        case _:
            return "failed"


def _counter(kind: type, outcome: str) -> Counter:
    counter = _outcomes.get((kind, outcome))
    if counter is None:
        counter = _outcomes[kind, outcome] = _ORDERS.labels(_snake_case(kind.__name__), outcome)
    return counter


def waiting(orders: int) -> None:
    """So many orders wait at this moment."""
    _WAITING.set(orders)


def degraded(redis_is_gone: bool) -> None:
    """Wallets are locked in Redis no more, or again."""
    _DEGRADED.set(redis_is_gone)


def missed(wallets: int) -> None:
    """So many wallets of a batch were held elsewhere."""
    _MISSED.inc(wallets)


def held(wallets: int) -> None:
    """So many wallets of a batch could not be had, since another session of the database had locked their rows."""
    _HELD.inc(wallets)


def in_doubt(outcome: InDoubt, orders: int) -> None:
    """
    How orders ended that were under way when a connection was lost during COMMIT.

    `committed`: it had happened. `repeated`: it had not, and they were carried out again. `unknown`: the database did
    not come back to say.
    """
    _IN_DOUBT.labels(outcome).inc(orders)


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
