"""The monthly fee: who owes it is found by date, and each period is an order like any other."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from actors.bank import Bank
from actors.money import Rates
from actors.orders import ChargeFee, Receipt
from actors.refusals import DatabaseUnavailable, Refusal
from actors.rules.fees import FEE_CURRENCY, FEE_PERIOD, MONTHLY_FEE, fee_at
from db.currencies import CURRENCIES
from db.tables import Wallet

# A few batches of the bank: enough to keep it busy, little enough to stay far below what may wait in it.
FEE_CHUNK = 2_000

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

# A blocked wallet owes no further fees, but is asked once more when its balance would pay the one it owes: the rate
# may have moved, or there was none when the money came in.
_DUE = """
FROM wallet WHERE "user" IS NOT NULL AND frozen_at IS NULL AND fee_due_at <= {}
    AND (is_active OR amount >= (({}::jsonb) ->> amount_currency)::numeric)
"""
_CHUNK = f"SELECT id, fee_due_at {_DUE} AND (fee_due_at, id) > ({{}}, {{}}) ORDER BY fee_due_at, id LIMIT {{}}"

# The worker charges every five minutes: what has been due for longer than three times that is overdue.
OVERDUE_SECONDS = 15 * 60
# More are not counted: the number is for people, and counting a million would take a second.
_OVERDUE_COUNTED = 10_000
# By PostgreSQL's clock. A wallet that waits for the money to pay its fee is blocked, and is not among these.
_OVERDUE = """
SELECT count(*) AS wallets, coalesce(extract(epoch FROM clock_timestamp() - min(fee_due_at)), 0)::float AS seconds
FROM (
    SELECT fee_due_at FROM wallet
    WHERE "user" IS NOT NULL AND frozen_at IS NULL AND is_active
        AND fee_due_at < clock_timestamp() - make_interval(secs => {})
    ORDER BY fee_due_at LIMIT {}
) AS overdue
"""

_log = logging.getLogger(__name__)


class Overdue(Struct, frozen=True, kw_only=True):
    """Fees that should have been charged by now: of how many wallets, and how long the oldest has been due."""

    wallets: int  # 10 000 where there are more
    seconds: float


async def overdue() -> Overdue:
    """The fees that have been due for longer than `OVERDUE_SECONDS`. Raises what the database raises."""
    (row,) = await Wallet.raw(_OVERDUE, OVERDUE_SECONDS, _OVERDUE_COUNTED)
    return Overdue(**row)


class FeesCharged(Struct, kw_only=True):
    """What a run did. Wallets, except `charged`: a wallet that owed three periods was charged three times."""

    due: int = 0  # wallets that owed something when the run began
    charged: int = 0
    blocked: int = 0
    skipped: int = 0  # refused for now: no rate, too much to do; the next run asks again
    unchanged: int = 0  # somebody else was faster


async def charge_due_fees(
    bank: Bank,
    rates: Rates | None,
    *,
    progress: Callable[[FeesCharged, int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> FeesCharged:
    """
    Charge every fee that is due, each period by itself and exactly once, however often and wherever this runs.

    PostgreSQL's clock tells what is due, here as in the rules.

    Wallets are walked in the order of their due dates. One that owes several periods pays them one after another before
    the walk goes on: its next date may lie behind that of a wallet in the same chunk, where nobody would look again.
    Nobody is met twice, so the walk ends. `rates` only tell which blocked wallets are worth asking; `progress` is told
    the sums after each chunk, and how many wallets have had their turn.

    Raises what the database raises when it can't be reached, or `DatabaseUnavailable` where it can't serve: nobody else
    would fare better now. What was charged until then stays charged.
    """
    now: datetime = (await Wallet.raw("SELECT now() AS now"))[0]["now"]
    payable = _payable(rates)
    run = FeesCharged(due=(await Wallet.raw(f"SELECT count(*) AS due {_DUE}", now, payable))[0]["due"])
    after_due, after_id, walked = _LONG_AGO, 0, 0
    while chunk := await _chunk(now, payable, after_due, after_id):
        orders = [ChargeFee(wallet_id=row["id"], due_at=row["fee_due_at"]) for row in chunk]
        after_due, after_id = orders[-1].due_at, orders[-1].wallet_id
        while orders:
            answers = await asyncio.gather(*(bank.perform(order) for order in orders), return_exceptions=True)
            for order, answer in zip(orders, answers, strict=True):
                _count(run, order, answer)
            if unavailable := next((each for each in answers if isinstance(each, DatabaseUnavailable)), None):
                raise unavailable
            orders = [
                ChargeFee(wallet_id=order.wallet_id, due_at=order.due_at + FEE_PERIOD)
                for order, answer in zip(orders, answers, strict=True)
                if isinstance(answer, Receipt) and answer.transaction and order.due_at + FEE_PERIOD <= now
            ]
        walked += len(chunk)
        if progress:
            progress(run, walked)
        if stop and stop.is_set():
            break  # the next run finds what is left
    return run


async def _chunk(now: datetime, payable: str, after_due: datetime, after_id: int) -> list[dict[str, Any]]:
    chunk: list[dict[str, Any]] = await Wallet.raw(_CHUNK, now, payable, after_due, after_id, FEE_CHUNK)
    return chunk


def _payable(rates: Rates | None) -> str:
    """The fee in each currency that it can be told in now, as a JSON object: a blocked wallet holding less is left."""
    fees: dict[str, Decimal] = {FEE_CURRENCY: MONTHLY_FEE}
    for currency in CURRENCIES:
        if rates and currency != FEE_CURRENCY and rates.know(FEE_CURRENCY, currency):
            fees[currency] = fee_at(rates.rate(FEE_CURRENCY, currency))
    return "{" + ",".join(f'"{currency}":"{fee}"' for currency, fee in fees.items()) + "}"


def _count(run: FeesCharged, order: ChargeFee, answer: Receipt | BaseException) -> None:
    match answer:
        case Receipt(transaction=None, blocked=True):
            run.blocked += 1
        case Receipt(transaction=None):
            run.unchanged += 1
        case Receipt():
            run.charged += 1
        case Refusal():
            run.skipped += 1
        case Exception():
            run.skipped += 1
            _log.error("The fee of wallet %d could not be charged", order.wallet_id, exc_info=answer)
        case _:
            raise answer  # cancelled
