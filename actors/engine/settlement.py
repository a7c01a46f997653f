"""
One batch against the database, and what happens when that fails.

    Phase    Round trips                                    What happens
    begin    1, at once with that for the Redis locks       a connection of the pool, BEGIN
    load     1; +1 where keys were used, +1 for reversals   the wallets' rows are locked and read; none is waited for
    rules    0; +1 where only refusals came of a free key   each mail's orders, in order, on one book
    save     1; none where nothing has changed              balances, transactions, entries, keys
             +1 each                                        messages, the log of staff
    commit   1; a rollback where nothing has changed        then every mail is answered, and not before
    doubt    +1 to +3, in load                              what an earlier COMMIT, its answer lost, has carried out

As many for five hundred orders as for one. Every mail is answered before `settle` returns, or returned by it.
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
from actors.engine.loading import keys_used, lock, open_book
from actors.engine.mailbox import Mail, split
from actors.engine.outages import of_postgres
from actors.engine.seldom import Seldom
from actors.engine.signals import Stage
from actors.money import Rates
from actors.orders import Receipt
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Refusal, TooLate
from actors.rules.apply import apply
from actors.rules.book import Book
from actors.rules.bulk import apply_all
from db import ledger, trouble
from db.engine import UNAVAILABLE
from db.ledger import Loaded
from db.transaction import Begun, CommitInDoubt, NothingToKeep, transaction

log = logging.getLogger(__name__)
_no_database = Seldom(log, "no database for %d orders: %s")


class _StillHeld(Exception):
    """A row was waited for, and somebody still holds it."""


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
# A second attempt would only be as long: the database does not answer, or a table is locked by somebody else.
_SILENCE = (TimeoutError, LockNotAvailableError)
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
    wait_for: frozenset[int] = frozenset(),
    before_answers: Callable[[], None] = lambda: None,
    on_silence: Callable[[], None] = lambda: None,
) -> list[Mail]:
    """
    Carry out a batch in one transaction and answer everyone but those it returns, in order: they are to be tried again.

    - A row is held by somebody else: those who need it, and what is behind them in their boxes, are returned; their
      `held` says which it was. The others go on in the same attempt. Only for the rows of `wait_for` is waited.
    - Overtaken by another process: it runs again.
    - Connection lost before COMMIT, or a database that can't serve: nothing has happened; it runs once more, then
      everyone is told so. Where the database is silent, or somebody has locked a whole table, they are told at once.
    - Connection lost during COMMIT: it is in doubt, and every later attempt first looks up what is there. Where that
      can't be had for `patience_seconds`, until `doubt_ends` on the event loop's clock, the outcome is called unknown.
    - An order's deadline has passed before an attempt: it is refused, and not carried out later.
    - Anything else: one order is poisoned. The batch is halved until that one is alone, and fails alone.

    The orders of one mail stay together in all of this. The first attempt uses the transaction that is `begun` already.
    `before_answers` is called where the whole batch has been committed, which is nearly always; `on_silence` where the
    next batch would wait as long, and in vain.
    """
    loop = asyncio.get_running_loop()
    overtaken = unavailable = 0
    while mails := _in_time(mails, loop.time()):
        culprit: Exception | None = None
        try:
            tried, outcomes, waiting = await _attempt(mails, rates, begun, wait_for)
            if wait_for and not tried:  # no longer for those, but for others
                wait_for = wait_for.union(*[mail.held for mail in waiting])
                continue
            before_answers()
            _answer(tried, outcomes)
            return waiting
        except _StillHeld:
            return mails
        except CommitInDoubt:
            log.warning("connection lost during COMMIT of %d orders: looking up how it ended", _count(mails))
        except _OVERTAKEN as error:
            overtaken += 1
            if overtaken >= _ATTEMPTS_OVERTAKEN:
                culprit = error
        except UNAVAILABLE as error:
            unavailable += 1
            if unavailable >= _ATTEMPTS_UNAVAILABLE or isinstance(error, _SILENCE):
                mails = _refuse_certain(mails, error)
            if isinstance(error, _SILENCE) and not _of_one_row(error):
                if isinstance(error, LockNotAvailableError):  # of silence readiness learns by asking
                    trouble.remember(error)
                on_silence()
        except Exception as error:  # noqa: BLE001 - whatever it is, one order of the batch is guilty of it
            culprit = error
        if isinstance(culprit, UNAVAILABLE):  # it concerns the whole database: half of the batch would fare no better
            mails = _refuse_certain(mails, culprit)
        elif culprit:
            return await _halve(mails, culprit, rates=rates, patience_seconds=patience_seconds, doubt_ends=doubt_ends)
        if any(mail.in_doubt for mail in mails):
            doubt_ends = doubt_ends or loop.time() + patience_seconds
            if loop.time() >= doubt_ends:
                mails = _refuse_certain(mails, CommitInDoubt())
                log.error("outcome of %d orders unknown: the database has not come back", _count(mails))
                signals.in_doubt("unknown", _count(mails))
                _refuse(mails, OutcomeUnknown)
                return []
            await asyncio.sleep(_PAUSE_SECONDS)
    return []


async def _attempt(
    mails: list[Mail], rates: Rates | None, begun: Begun | None, wait_for: frozenset[int]
) -> tuple[list[Mail], list[list[Receipt | Refusal] | Refusal], list[Mail]]:
    """
    The batch in one transaction: the mails that were tried, what each came to once it is committed, and those that have
    to wait for a row.
    """
    tried: list[Mail] = []
    try:
        async with transaction(
            begun=begun, reserved=True, begin_seconds=_BEGIN_SECONDS, committing=Stage("commit", mails)
        ):
            async with asyncio.timeout(_BATCH_SECONDS):
                with Stage("load", mails):
                    loaded = await _lock(mails, wait_for)
                    tried, waiting = (
                        split(mails, lambda mail: bool(_held(mail, loaded))) if loaded.held else (mails, [])
                    )
                    book = await open_book(tried, loaded, rates)
                outcomes, done_before, changed = await _until_commit(tried, book)
            if not changed:
                raise NothingToKeep
    except CommitInDoubt:
        for mail in tried:
            mail.in_doubt = True
        raise
    if doubtful := _count([mail for mail in tried if mail.in_doubt]):
        signals.in_doubt("committed", done_before)
        signals.in_doubt("repeated", doubtful - done_before)
    if waiting:
        signals.held(len(loaded.held))
    for mail in waiting:
        mail.held = _held(mail, loaded)
        mail.missed += bool(mail.held)
    return tried, outcomes, waiting


async def _lock(mails: list[Mail], wait_for: frozenset[int]) -> Loaded:
    """Raises `_StillHeld` where it waited in vain."""
    if wait_for:
        try:
            await ledger.wait_for(wait_for)
        except LockNotAvailableError:
            raise _StillHeld from None
    return await lock(mails)


def _held(mail: Mail, loaded: Loaded) -> frozenset[int]:
    """The wallets it needs whose rows somebody else has locked."""
    needed = {*mail.wallet_ids, *mail.row_ids}
    return frozenset(id for id, number in loaded.held.items() if id in needed or number in mail.row_numbers)


async def _until_commit(mails: list[Mail], book: Book) -> tuple[list[list[Receipt | Refusal] | Refusal], int, bool]:
    """
    What each mail comes to, how many orders an earlier COMMIT, that was in doubt, had carried out, and whether there is
    anything to commit.
    """
    in_doubt = [order.id for mail in mails if mail.in_doubt for order in mail.orders]
    done_before = sum(id in book.done or id in book.logged for id in in_doubt)
    with Stage("rules", mails):
        outcomes = [_apply(mail, book) for mail in mails]
    # One that is free and has led to nothing but refusals: was it free, or were they refused what happened already?
    free = [key.id for mail in mails if (key := mail.key) and key.id not in book.used_keys]
    if await keys_used(free):
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
) -> list[Mail]:
    """Settle the two halves of a failed batch, in order; a failed order that is alone gets the error."""
    if len(mails) == 1:
        log.error("order %s failed", mails[0].orders[0].id, exc_info=error)
        mails[0].refuse(error)
        return []
    waiting: list[Mail] = []
    middle = len(mails) // 2
    for half in (mails[:middle], mails[middle:]):
        stalled = {mail.wallet_ids[0] for mail in waiting}
        going, behind = split(half, lambda mail, stalled=stalled: mail.wallet_ids[0] in stalled)  # type: ignore[misc]
        waiting += await settle(going, rates=rates, patience_seconds=patience_seconds, doubt_ends=doubt_ends)
        waiting += behind
    return waiting


def _in_time(mails: list[Mail], now: float) -> list[Mail]:
    """Those that may still be carried out, and those in doubt, which may have been: that must be looked up."""
    late = [mail for mail in mails if mail.deadline <= now and not mail.in_doubt]
    for mail in late:
        mail.refuse(TooLate())
    return [mail for mail in mails if mail.deadline > now or mail.in_doubt] if late else mails


def _of_one_row(error: BaseException) -> bool:
    """Whether it waited for a row or an id that another transaction is writing: nobody else would wait for that."""
    return " tuple (" in (getattr(error, "context", None) or "")


def _refuse_certain(mails: list[Mail], error: Exception) -> list[Mail]:
    """Tell those that certainly have not been carried out; the others are returned."""
    certain = [mail for mail in mails if not mail.in_doubt]
    if certain:
        _no_database.warn(_count(certain), of_postgres(error))
        _refuse(certain, DatabaseUnavailable)
    return [mail for mail in mails if mail.in_doubt]


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
