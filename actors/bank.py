"""The one door to money: `Bank.perform(order)`, and `perform_all` for many at once. Lanes, deadlines, draining."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from actors.directory import Directory
from actors.engine import signals
from actors.engine.background import in_background
from actors.engine.locks import Locks
from actors.engine.mailbox import Mail, Mailboxes
from actors.engine.settlement import settle
from actors.engine.signals import Moment, Passed, Stage
from actors.money import Rates
from actors.orders import Bulk, Order, Receipt, Reverse, Transfer
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Refusal, Stopping, TooLate, TransactionNotFound
from db import ledger
from db.engine import UNAVAILABLE
from db.transaction import Begun

log = logging.getLogger(__name__)

# Turns of the event loop before a batch is taken: they let in the requests that have already arrived. Not a timer.
_TURNS = 3


AtLeastOne = Annotated[int, Meta(ge=1)]


class Limits(Struct, frozen=True, kw_only=True):
    """How much the bank takes on at once."""

    lanes: AtLeastOne = 1
    """Batches that may be under way at once in one process."""
    batch_max: AtLeastOne = 500
    """Orders in one batch."""
    wallet_mailbox_max: AtLeastOne = 2_000
    """Orders that may wait for one wallet."""
    mailbox_max: AtLeastOne = 10_000
    """Orders that may wait in one process."""
    deadline_seconds: float = 10.0
    """An order that has waited so long is answered 503 and not carried out."""
    patience_seconds: float = 0.75
    """How long a broken COMMIT is looked up before its outcome is called unknown. All who wait in the lane wait too."""
    drain_seconds: float = 20.0
    """How long a stopping process works on what it has accepted."""
    numbers_max: AtLeastOne = 200_000
    """Wallet numbers whose ids a process remembers."""


class Bank:
    """Where orders go. One in each process; what they agree on, they agree on in PostgreSQL."""

    def __init__(self, limits: Limits, locks: Locks, rates: Callable[[], Rates | None]) -> None:
        self.limits = limits
        self.locks = locks
        self._rates = rates
        self._mailboxes = Mailboxes(per_wallet_max=limits.wallet_mailbox_max, total_max=limits.mailbox_max)
        self._directory = Directory(remembered_max=limits.numbers_max)
        self._elsewhere: set[int] = set()  # missed wallets: busy until somebody wakes us or a moment has passed
        self._mail_has_come = asyncio.Event()
        self._open = False
        self.on_road: Callable[[list[Passed]], None] | None = None  # told of the stages each order has passed
        locks.on_freed = self._freed_elsewhere

    async def perform(self, order: Order) -> Receipt:
        """
        Carry out an order, and answer after its commit.

        Raises:
            Refusal: it was turned down and nothing has happened, except that `OutcomeUnknown` does not know.
            Exception: what the database said to this one order and to no other of its batch; nothing has happened.
        """
        road: list[Passed] | None = [] if self.on_road else None
        try:
            wallet_ids, numbers = await self._wallets(order)
            (outcome,) = await self._put((order,), wallet_ids, road, row_numbers=numbers)
            if isinstance(outcome, Refusal):
                raise outcome
        except BaseException as error:
            signals.answered(order, error)
            raise
        finally:
            if road and self.on_road:
                self.on_road(road)
        if numbers:
            self._remember(outcome)
        signals.answered(order, outcome)
        return outcome

    async def perform_all(self, bulk: Bulk) -> list[Receipt | Refusal]:
        """
        Carry out the transfers of a bulk, and answer after their one commit: by position, each receipt or refusal.

        Raises:
            Refusal: the whole was turned down and nothing has happened, except that `OutcomeUnknown` does not know.
            Exception: what the database said to one of the transfers; nothing has happened.
        """
        road: list[Passed] | None = [] if self.on_road else None
        try:
            known, unknown = self._receivers(bulk)
            outcomes = await self._put(bulk.transfers, (bulk.wallet_id,), road, bulk, known, unknown)
        except BaseException as error:
            signals.answered_alike(bulk.transfers, error)
            raise
        finally:
            if road and self.on_road:
                self.on_road(road)
        if unknown:
            for outcome in outcomes:
                self._remember(outcome)
        signals.answered_each(bulk.transfers, outcomes)
        return outcomes

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry out orders as long as the block runs; then finish what was accepted, and leave nobody unanswered."""
        try:
            async with in_background(*[self._lane] * self.limits.lanes, self._watch_deadlines):
                self._open = True
                try:
                    yield
                finally:
                    self._open = False
                    await self._drain()
        finally:
            for mail in self._mailboxes.expired(math.inf):
                mail.refuse(Stopping())
            signals.waiting(0)

    def _put(
        self,
        orders: tuple[Order, ...],
        wallet_ids: tuple[int, ...],
        road: list[Passed] | None,
        bulk: Bulk | None = None,
        row_ids: tuple[int, ...] = (),
        row_numbers: tuple[str, ...] = (),
    ) -> "asyncio.Future[list[Receipt | Refusal]]":
        """Queue orders that stay together; the future is their answer."""
        if not self._open:
            raise Stopping()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Receipt | Refusal]] = loop.create_future()
        deadline = loop.time() + self.limits.deadline_seconds
        self._mailboxes.put(Mail(orders, wallet_ids, answer, deadline, road, bulk, row_ids, row_numbers))
        self._mail_has_come.set()
        return answer

    async def _wallets(self, order: Order) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """
        The wallets that an order needs: the ids of those known, the acting one first, and the number of one unknown.

        Whether there is a wallet with such a number is for the rule to say.
        """
        if isinstance(order, Transfer):
            receiver_id = self._directory.wallet_id(order.receiver_number)
            if receiver_id is None:
                return (order.wallet_id,), (order.receiver_number,)
            return (order.wallet_id, receiver_id), ()
        if isinstance(order, Reverse):
            return await self._wallets_of(order.transaction_id), ()
        return (order.wallet_id,), ()

    def _receivers(self, bulk: Bulk) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The wallets that a bulk pays: the ids of those known, and the numbers of those unknown."""
        ids = {order.receiver_number: self._directory.wallet_id(order.receiver_number) for order in bulk.transfers}
        known = tuple(id for id in ids.values() if id is not None)
        return known, tuple(number for number, id in ids.items() if id is None)

    def _remember(self, outcome: Receipt | Refusal) -> None:
        """Know the receiver from now on."""
        if isinstance(outcome, Receipt) and outcome.transaction and outcome.receiver_number:
            assert outcome.transaction.receiver_id
            self._directory.remember(outcome.receiver_number, outcome.transaction.receiver_id)

    async def _wallets_of(self, transaction_id: UUID) -> tuple[int, ...]:
        """Who received, and who sent. Raises `TransactionNotFound`, `DatabaseUnavailable`."""
        try:
            found = (await ledger.transactions([transaction_id])).get(transaction_id)
        except UNAVAILABLE:
            raise DatabaseUnavailable() from None
        if found is None:
            raise TransactionNotFound()
        return tuple(id for id in (found.receiver_id, found.sender_id) if id is not None)

    async def _lane(self) -> None:
        """Empty the mailboxes, a batch at a time."""
        await self._mail_has_come.wait()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        batch = self._mailboxes.take(self.limits.batch_max)
        if batch:
            await self._carry_out(batch)
        else:
            self._mail_has_come.clear()

    async def _carry_out(self, batch: list[Mail]) -> None:
        wallet_ids = {wallet_id for mail in batch for wallet_id in mail.wallet_ids}
        token, missed = "", set[int]()
        left_mailbox = Moment()

        def let_go() -> None:
            nonlocal token
            self.locks.release_soon(wallet_ids - missed, token)
            token = ""

        begun = Begun()  # two round trips at once
        try:
            with Stage("lock", batch):
                token, missed = await self.locks.take(wallet_ids)
            if missed:
                signals.missed(len(missed))
                self._elsewhere |= missed
                self.locks.retry_soon(missed)
                batch = self._mailboxes.give_back(batch, missed)
            if batch:
                left_mailbox.taken(batch, self.limits.deadline_seconds)
                # Whoever waits for a hot wallet in another process need not wait for our answers to be sent as well.
                patience = self.limits.patience_seconds
                await settle(batch, rates=self._rates(), patience_seconds=patience, begun=begun, before_answers=let_go)
        except asyncio.CancelledError:  # draining has taken too long
            for mail in batch:
                mail.refuse(OutcomeUnknown())
            raise
        except Exception as error:  # a bug: those who wait must hear of it, and the lane goes on
            log.exception("a batch of %d mails failed", len(batch))
            for mail in batch:
                mail.refuse(error)
        finally:
            self._free(wallet_ids - missed)
            let_go()
            await begun.end()

    def _freed_elsewhere(self, wallet_ids: Iterable[int]) -> None:
        back = self._elsewhere.intersection(wallet_ids)
        self._elsewhere -= back
        self._free(back)

    def _free(self, wallet_ids: set[int]) -> None:
        self._mailboxes.free(wallet_ids)
        self._mail_has_come.set()

    async def _watch_deadlines(self) -> None:
        await asyncio.sleep(min(0.1, self.limits.deadline_seconds / 10))
        signals.waiting(self._mailboxes.waiting)
        for mail in self._mailboxes.expired(asyncio.get_running_loop().time()):
            mail.refuse(TooLate())
            self._mail_has_come.set()  # what waited behind it may not need the wallet that held it up

    async def _drain(self) -> None:
        end = asyncio.get_running_loop().time() + self.limits.drain_seconds
        while not self._mailboxes.idle and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - once a process
            await asyncio.sleep(0.01)
