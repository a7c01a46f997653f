"""
One batch against the database, and what happens when that fails.

    Phase    Round trips                                    What happens
    begin    1, at once with that for the Redis locks       a connection of the pool, BEGIN
    load     1; +1 where keys were used, +1 for reversals   the wallets' rows are locked and read, in order of their ids
    rules    0; +1 where only refusals came of a free key   each mail's orders, in order, on one book
    save     1; none where nothing has changed              balances, transactions, entries, keys
             +1 each                                        messages, freezes, the log of staff
    commit   1; a rollback where nothing has changed        then every mail is answered, and not before
    doubt    +1 to +3, in load                              what an earlier COMMIT, its answer lost, has carried out

As many for five hundred orders as for one. Every mail is answered before `settle` returns.
"""

import asyncio
import logging
from collections.abc import Callable

from asyncpg.exceptions import (
    DeadlockDetectedError,
    InvalidCachedStatementError,
    LockNotAvailableError,
    SerializationError,
    UniqueViolationError,
)

from actors.engine import signals
from actors.engine.loading import keys_used, open_book
from actors.engine.mailbox import Mail
from actors.engine.signals import Stage
from actors.money import Rates
from actors.orders import Receipt
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Overloaded, Refusal, TooLate
from actors.rules.apply import apply
from actors.rules.book import Book
from actors.rules.bulk import apply_all
from db import ledger
from db.engine import UNAVAILABLE
from db.transaction import Begun, CommitInDoubt, NothingToKeep, transaction

log = logging.getLogger(__name__)


class _KeyUsedMeanwhile(Exception):
    """An idempotency key that was free when the batch's rows were asked for is used by the time they were had."""


# Another process was faster, or has migrated the tables: with what it has done in view, the batch comes out otherwise.
_OVERTAKEN = (
    UniqueViolationError,
    DeadlockDetectedError,
    SerializationError,
    InvalidCachedStatementError,
    _KeyUsedMeanwhile,
)
_ATTEMPTS_OVERTAKEN = 3
_ATTEMPTS_UNAVAILABLE = 2
_PAUSE_SECONDS = 0.1
# BEGIN asks for nothing and waits for nobody, and a batch takes milliseconds. A database that takes longer is silent,
# and everybody waits behind the batch: it is hung up, and not asked a second time.
_BEGIN_SECONDS = 1.0
_BATCH_SECONDS = 2.0


async def settle(  # noqa: C901 - its table of failures, row after row, is easier to check in one piece
    mails: list[Mail],
    *,
    rates: Rates | None,
    patience_seconds: float,
    doubt_ends: float | None = None,
    begun: Begun | None = None,
    before_answers: Callable[[], None] = lambda: None,
) -> None:
    """
    Carry out a batch in one transaction and answer everyone.

    - Overtaken by another process: it runs again.
    - Connection lost before COMMIT: nothing has happened; it runs once more, then everyone is told so. Where the
      database is silent, they are told at once.
    - Connection lost during COMMIT: it is in doubt, and every later attempt first looks up what is there. Where that
      can't be had for `patience_seconds`, until `doubt_ends` on the event loop's clock, the outcome is called unknown.
    - A row is held by somebody outside: the batch is halved until those who need it are alone, and told to come again.
    - An order's deadline has passed before an attempt: it is refused, and not carried out later.
    - Anything else: one order is poisoned. The batch is halved until that one is alone, and fails alone.

    The orders of one mail stay together in all of this. The first attempt uses the transaction that is `begun` already.
    `before_answers` is called where the whole batch has been committed, which is nearly always.
    """
    loop = asyncio.get_running_loop()
    overtaken = unavailable = 0
    while mails := mails if doubt_ends else _in_time(mails, loop.time()):
        culprit: Exception | None = None
        try:
            outcomes = await _attempt(mails, rates, begun, in_doubt=doubt_ends is not None)
            before_answers()
            _answer(mails, outcomes)
            return
        except CommitInDoubt:
            log.warning("connection lost during COMMIT of %d orders: looking up how it ended", _count(mails))
            doubt_ends = doubt_ends or loop.time() + patience_seconds
        except LockNotAvailableError:
            if not doubt_ends:
                culprit = Overloaded("The wallet is busy. Nothing has happened. Try again in a moment.")
        except UNAVAILABLE as error:
            unavailable += 1
            if not doubt_ends and (unavailable >= _ATTEMPTS_UNAVAILABLE or isinstance(error, TimeoutError)):
                log.warning("no database for %d orders: %s", _count(mails), type(error).__name__)
                _refuse(mails, DatabaseUnavailable)
                return
        except _OVERTAKEN as error:
            overtaken += 1
            culprit = error if overtaken >= _ATTEMPTS_OVERTAKEN else None
        except Exception as error:  # noqa: BLE001 - whatever it is, one order of the batch is guilty of it
            culprit = error
        if culprit:
            await _halve(mails, culprit, rates=rates, patience_seconds=patience_seconds, doubt_ends=doubt_ends)
            return
        if doubt_ends:
            if loop.time() >= doubt_ends:
                log.error("outcome of %d orders unknown: the database has not come back", _count(mails))
                signals.in_doubt("unknown", _count(mails))
                _refuse(mails, OutcomeUnknown)
                return
            await asyncio.sleep(_PAUSE_SECONDS)


async def _attempt(
    mails: list[Mail], rates: Rates | None, begun: Begun | None, *, in_doubt: bool
) -> list[list[Receipt | Refusal] | Refusal]:
    """The batch in one transaction: what each mail came to, once it is committed."""
    async with transaction(begun=begun, begin_seconds=_BEGIN_SECONDS, committing=Stage("commit", mails)):
        async with asyncio.timeout(_BATCH_SECONDS):
            outcomes, done_before, changed = await _until_commit(mails, rates, in_doubt=in_doubt)
        if not changed:
            raise NothingToKeep
    if in_doubt:
        signals.in_doubt("committed", done_before)
        signals.in_doubt("repeated", _count(mails) - done_before)
    return outcomes


async def _until_commit(
    mails: list[Mail], rates: Rates | None, *, in_doubt: bool
) -> tuple[list[list[Receipt | Refusal] | Refusal], int, bool]:
    """
    What each mail comes to, how many orders an earlier COMMIT, that was in doubt, had carried out, and whether there is
    anything to commit.
    """
    done_before = 0
    with Stage("load", mails):
        book = await open_book(mails, rates, in_doubt=in_doubt)
    if in_doubt:
        done_before = sum(order.id in book.done or order.id in book.logged for mail in mails for order in mail.orders)
    with Stage("rules", mails):
        outcomes = [_apply(mail, book) for mail in mails]
    # One that is free and has led to nothing but refusals: was it free, or were they refused what happened already?
    free = [key.id for mail in mails if (key := mail.key) and key.id not in book.used_keys]
    if free and await keys_used(free):
        raise _KeyUsedMeanwhile
    changed = bool(book.changes.wallets)
    if changed:
        with Stage("save", mails):
            await ledger.save(book.changes)
    return outcomes, done_before, changed


def _apply(mail: Mail, book: Book) -> list[Receipt | Refusal] | Refusal:
    try:
        if mail.bulk:
            return apply_all(mail.bulk, book)
        (order,) = mail.orders
        if book.done and (found := book.done.get(order.id)):
            return [book.receipt(*found)]
        return [apply(order, book)]
    except Refusal as refusal:
        return refusal


async def _halve(
    mails: list[Mail], error: Exception, *, rates: Rates | None, patience_seconds: float, doubt_ends: float | None
) -> None:
    """Settle the two halves of a failed batch, in order; a failed order that is alone gets the error."""
    if len(mails) == 1:
        if not isinstance(error, Refusal):
            log.error("order %s failed", mails[0].orders[0].id, exc_info=error)
        mails[0].refuse(error)
        return
    middle = len(mails) // 2
    for half in (mails[:middle], mails[middle:]):
        await settle(half, rates=rates, patience_seconds=patience_seconds, doubt_ends=doubt_ends)


def _in_time(mails: list[Mail], now: float) -> list[Mail]:
    late = [mail for mail in mails if mail.deadline <= now]
    for mail in late:
        mail.refuse(TooLate())
    return [mail for mail in mails if mail.deadline > now] if late else mails


def _answer(mails: list[Mail], outcomes: list[list[Receipt | Refusal] | Refusal]) -> None:
    for mail, outcome in zip(mails, outcomes, strict=True):
        if isinstance(outcome, Refusal):
            mail.refuse(outcome)
        else:
            mail.receive(outcome)


def _refuse(mails: list[Mail], refusal: type[Refusal]) -> None:
    for mail in mails:
        mail.refuse(refusal())


def _count(mails: list[Mail]) -> int:
    """How many orders that is."""
    return sum(len(mail.orders) for mail in mails)
