"""
One batch against the database: load, apply the rules, save, commit; and what happens when that fails.

Every mail is answered before `settle` returns, and after the commit.
"""

import asyncio
import logging
from datetime import UTC, datetime

from asyncpg.exceptions import (
    DeadlockDetectedError,
    InvalidCachedStatementError,
    LockNotAvailableError,
    SerializationError,
    UniqueViolationError,
)

from actors import signals
from actors.book import Book, UsedKey
from actors.mailbox import Mail
from actors.money import Rates
from actors.orders import Receipt, Reverse
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Overloaded, Refusal, TooLate
from actors.rules import apply
from actors.signals import Stage
from db import ledger
from db.engine import UNAVAILABLE
from db.transaction import CommitInDoubt, transaction

log = logging.getLogger(__name__)

# Another process was faster, or has migrated the tables: with what it has done in view, the batch comes out otherwise.
_OVERTAKEN = (UniqueViolationError, DeadlockDetectedError, SerializationError, InvalidCachedStatementError)
_ATTEMPTS_OVERTAKEN = 3
_ATTEMPTS_UNAVAILABLE = 2
_PAUSE_SECONDS = 0.1


async def settle(mails: list[Mail], *, rates: Rates | None, patience_ends: float, in_doubt: bool = False) -> None:
    """
    Carry out a batch in one transaction and answer everyone.

    - Overtaken by another process: it runs again.
    - Connection lost before COMMIT: nothing has happened; it runs once more, then everyone is told so.
    - Connection lost during COMMIT: it is in doubt, and every later attempt first looks up what is there. Past
      `patience_ends`, on the event loop's clock, everyone is told that the outcome is unknown.
    - A row is held by somebody outside: the batch is halved until those who need it are alone, and told to come again.
    - An order's deadline has passed before an attempt: it is refused, and not carried out later.
    - Anything else: one order is poisoned. The batch is halved until that one is alone, and fails alone.
    """
    loop = asyncio.get_running_loop()
    overtaken = unavailable = 0
    while mails := mails if in_doubt else _in_time(mails, loop.time()):
        culprit: Exception | None = None
        try:
            _answer(mails, await _attempt(mails, rates, in_doubt))
            return
        except CommitInDoubt:
            log.warning("connection lost during COMMIT of %d orders: looking up how it ended", len(mails))
            in_doubt = True
        except LockNotAvailableError:
            if not in_doubt:
                culprit = Overloaded("The wallet is busy. Nothing has happened. Try again in a moment.")
        except UNAVAILABLE as error:
            unavailable += 1
            if not in_doubt and unavailable >= _ATTEMPTS_UNAVAILABLE:
                log.warning("no database for %d orders: %s", len(mails), type(error).__name__)
                _refuse(mails, DatabaseUnavailable)
                return
        except _OVERTAKEN as error:
            overtaken += 1
            culprit = error if overtaken >= _ATTEMPTS_OVERTAKEN else None
        except Exception as error:  # noqa: BLE001 - whatever it is, one order of the batch is guilty of it
            culprit = error
        if culprit:
            await _halve(mails, culprit, rates=rates, patience_ends=patience_ends, in_doubt=in_doubt)
            return
        if in_doubt:
            if loop.time() >= patience_ends:
                log.error("outcome of %d orders unknown: the database has not come back", len(mails))
                signals.in_doubt("unknown", len(mails))
                _refuse(mails, OutcomeUnknown)
                return
            await asyncio.sleep(_PAUSE_SECONDS)


async def _attempt(mails: list[Mail], rates: Rates | None, in_doubt: bool) -> list[Receipt | Refusal]:
    """The batch in one transaction: what each order came to, once it is committed."""
    async with transaction(committing=Stage("commit", mails)):
        with Stage("load", mails):
            book = await _open_book(mails, rates)
            done = await _already_done(mails, book) if in_doubt else {}
        with Stage("rules", mails):
            outcomes = [done.get(position) or _apply(mail, book) for position, mail in enumerate(mails)]
        if book.changes.wallets:
            with Stage("save", mails):
                await ledger.save(book.changes)
    if in_doubt:
        signals.in_doubt("committed", len(done))
        signals.in_doubt("repeated", len(mails) - len(done))
    return outcomes


async def _open_book(mails: list[Mail], rates: Rates | None) -> Book:
    wallet_ids = {wallet_id for mail in mails for wallet_id in mail.wallet_ids}
    key_ids = [key.id for mail in mails if (key := getattr(mail.order, "key", None))]
    wallets, key_rows = await ledger.load(wallet_ids, key_ids)
    used = await ledger.transactions([row.transaction_id for row in key_rows]) if key_rows else {}
    used_keys = [UsedKey(row, used[row.transaction_id]) for row in key_rows]
    to_reverse = [mail.order.transaction_id for mail in mails if isinstance(mail.order, Reverse)]
    originals = await ledger.originals(to_reverse) if to_reverse else []
    return Book(wallets=wallets, used_keys=used_keys, rates=rates, now=datetime.now(UTC), originals=originals)


async def _already_done(mails: list[Mail], book: Book) -> dict[int, Receipt]:
    """
    By position, the receipts of orders whose COMMIT was in doubt and has happened.

    The wallets are locked by now, so whoever was committing has come to an end, one way or the other.
    """
    found = await ledger.find([(mail.order.id, mail.wallet_ids[0]) for mail in mails])
    receipts: dict[int, Receipt] = {}
    for position, mail in enumerate(mails):
        if mail.order.id in found:
            transaction, balance_after = found[mail.order.id]
            receipts[position] = Receipt(
                transaction=transaction,
                balance_after=balance_after,
                sender_number=book.number(transaction.sender_id),
                receiver_number=book.number(transaction.receiver_id),
            )
    return receipts


def _apply(mail: Mail, book: Book) -> Receipt | Refusal:
    try:
        return apply(mail.order, book)
    except Refusal as refusal:
        return refusal


async def _halve(
    mails: list[Mail], error: Exception, *, rates: Rates | None, patience_ends: float, in_doubt: bool
) -> None:
    """Settle the two halves of a failed batch, in order; a failed order that is alone gets the error."""
    if len(mails) == 1:
        if not isinstance(error, Refusal):
            log.error("order %s failed", mails[0].order.id, exc_info=error)
        mails[0].refuse(error)
        return
    middle = len(mails) // 2
    for half in (mails[:middle], mails[middle:]):
        await settle(half, rates=rates, patience_ends=patience_ends, in_doubt=in_doubt)


def _in_time(mails: list[Mail], now: float) -> list[Mail]:
    late = [mail for mail in mails if mail.deadline <= now]
    for mail in late:
        mail.refuse(TooLate())
    return [mail for mail in mails if mail.deadline > now] if late else mails


def _answer(mails: list[Mail], outcomes: list[Receipt | Refusal]) -> None:
    for mail, outcome in zip(mails, outcomes, strict=True):
        if isinstance(outcome, Receipt):
            mail.receive(outcome)
        else:
            mail.refuse(outcome)


def _refuse(mails: list[Mail], refusal: type[Refusal]) -> None:
    for mail in mails:
        mail.refuse(refusal())
