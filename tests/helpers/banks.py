"""Banks as the processes of a wallet have them, and what their orders came to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

from actors.bank import Bank, Limits
from actors.engine.locks import Lease, Locks
from actors.orders import Order, Receipt
from actors.refusals import Refusal
from tests.helpers.patience import PATIENT_LEASE, patient
from tests.helpers.prices import rates_at
from tests.helpers.waiting import GIVE_UP_SECONDS

_NOW = datetime.now(UTC)

RATES = rates_at(as_of=_NOW, valid_until=_NOW + timedelta(days=1), KZT="520", EUR="0.86")

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
"""A Redis that is gone."""


@asynccontextmanager
async def banks(
    number: int, redis_url: str, limits: Limits | None = None, lease: Lease | None = None
) -> AsyncIterator[list[Bank]]:
    """So many banks on one database and one Redis, each with locks of its own, as so many processes would have."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(number):
            locks = Locks(redis_url, lease or PATIENT_LEASE)
            bank = Bank(patient(limits or Limits()), locks, lambda: RATES)
            await stack.enter_async_context(bank.running())
            opened.append(bank)
        yield opened


@asynccontextmanager
async def stoppable(redis_url: str, limits: Limits) -> AsyncIterator[tuple[Bank, Callable[[], Awaitable[None]]]]:
    """A bank, and what stops it."""
    locks = Locks(redis_url, PATIENT_LEASE)
    async with AsyncExitStack() as life:
        bank = Bank(patient(limits), locks, lambda: RATES)
        await life.enter_async_context(bank.running())
        yield bank, life.aclose


async def answers(asked: Iterable[Awaitable[Receipt]]) -> list[Receipt | BaseException]:
    """What each of these came to; five minutes without an answer fail the test."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        return await asyncio.gather(*asked, return_exceptions=True)


async def performed(bank: Bank, orders: Iterable[Order]) -> list[Receipt | BaseException]:
    """What each of these orders, given at once to one bank, came to."""
    return await answers([bank.perform(order) for order in orders])


def receipts(came_to: list[Receipt | BaseException]) -> list[Receipt]:
    """The receipts among the answers; whatever is neither a receipt nor a refusal fails the test."""
    for answer in came_to:
        if not isinstance(answer, Receipt | Refusal):
            raise answer
    return [answer for answer in came_to if isinstance(answer, Receipt)]


def codes(came_to: list[Receipt | BaseException]) -> set[str]:
    """The codes of the refusals among the answers."""
    return {answer.code for answer in came_to if isinstance(answer, Refusal)}
