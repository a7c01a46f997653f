"""The one door to money: `Bank.perform(order)`, and `perform_all` for a bulk. Lanes, deadlines, draining."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from actors.engine import signals
from actors.engine.background import end, in_background
from actors.engine.locks import Locks
from actors.engine.mailbox import Mail, Mailboxes, Passed, split
from actors.engine.settlement import settle
from actors.engine.signals import Moment, Stage
from actors.money import Rates
from actors.orders import Bulk, Order, Receipt, Reverse, Transfer
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Refusal, Stopping, TooLate, TransactionNotFound
from db import ledger
from db.engine import UNAVAILABLE
from db.transaction import Begun

log = logging.getLogger(__name__)

# Mail that has found rows held so often is settled beside the lane, where it waits for them in PostgreSQL's own queue:
# whoever only looks now and then whether a row is free can look for ever. So many at a time: each has a connection.
_BESIDE_AFTER = 5
_BESIDE_MAX = 2
# Until a held row is tried again, growing from the one to the other with each time.
_PAUSE_SECONDS, _PAUSE_MAX_SECONDS = 0.002, 0.25

# Turns of the event loop before a batch is taken: they let in the requests that have already arrived. Not a timer.
_TURNS = 3


AtLeastOne = Annotated[int, Meta(ge=1)]


class Limits(Struct, frozen=True, kw_only=True):
    """How much work the bank accepts."""

    lanes: AtLeastOne = 1
    """Batches that one process runs at the same time."""
    batch_max: AtLeastOne = 500
    """Most orders in one batch."""
    wallet_mailbox_max: AtLeastOne = 2_000
    """Most orders that wait for one wallet."""
    mailbox_max: AtLeastOne = 10_000
    """Most orders that wait in one process."""
    deadline_seconds: float = 10.0
    """An order that has waited this long gets 503 and is not carried out."""
    patience_seconds: float = 0.75
    """How long to look up a COMMIT that lost its connection, before the outcome is unknown. The lane waits too."""
    drain_seconds: float = 20.0
    """How long a stopping process works on the orders it has accepted."""
    numbers_max: AtLeastOne = 200_000
    """Most wallet numbers whose ids a process remembers."""

    @property
    def connections(self) -> int:
        """To the database, at most: those of the lanes, and of who waits beside them."""
        return self.lanes + _BESIDE_MAX


class _Needed(Struct, frozen=True):
    """Wallets that orders need: those queued for, the acting one first, and those found by their rows alone."""

    wallet_ids: tuple[int, ...]
    row_ids: tuple[int, ...] = ()
    row_numbers: tuple[str, ...] = ()


class Bank:
    """Where orders go. One in each process; what they agree on, they agree on in PostgreSQL."""

    def __init__(
        self,
        limits: Limits,
        locks: Locks,
        rates: Callable[[], Rates | None],
        *,
        on_road: Callable[[list[Passed]], None] | None = None,
    ) -> None:
        """`on_road` is told of the stages that each order has passed, once it is answered."""
        self.limits = limits
        self.locks = locks
        self._rates = rates
        self._on_road = on_road
        self._mailboxes = Mailboxes(per_wallet_max=limits.wallet_mailbox_max, total_max=limits.mailbox_max)
        # Wallets by their numbers, which never change hands: what an order has found out, the oldest forgotten first.
        # Nobody asks the database for one alone: see docs/decisions/0015-unknown-receivers.md.
        self._wallet_ids: dict[str, int] = {}
        self._elsewhere: set[int] = set()  # missed wallets: busy until somebody wakes us or a moment has passed
        self._beside: set[asyncio.Task[None]] = set()
        self._mail_has_come = asyncio.Event()
        self._open = False

    async def perform(self, order: Order) -> Receipt:
        """
        Carry out an order, and answer after its commit.

        Raises:
            Refusal: it was turned down and nothing has happened, except that `OutcomeUnknown` does not know.
            Exception: what the database said to this one order and to no other of its batch; nothing has happened.
        """
        (outcome,) = await self._outcomes(order)
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome

    async def perform_all(self, bulk: Bulk) -> list[Receipt | Refusal]:
        """
        Carry out the transfers of a bulk, and answer after their one commit: by position, each receipt or refusal.

        Raises as `perform` does where the whole bulk is turned down.
        """
        return await self._outcomes(bulk)

    def has_met(self, number: str) -> bool:
        """Whether somebody has paid the wallet with this number, in this process."""
        return number in self._wallet_ids

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry out orders as long as the block runs; then finish what was accepted, and leave nobody unanswered."""
        async with self.locks.running(self._freed_elsewhere):
            try:
                async with in_background(*[self._lane] * self.limits.lanes, self._watch_deadlines):
                    self._open = True
                    try:
                        yield
                    finally:
                        self._open = False
                        await self._drain()
            finally:
                await end(list(self._beside))
                for mail in self._mailboxes.expired(math.inf):
                    mail.give_up(Stopping())
                signals.waiting(0)

    async def _outcomes(self, asked: Order | Bulk) -> list[Receipt | Refusal]:
        """What each order came to; one order is the N=1 case of a bulk."""
        orders: tuple[Order, ...] = asked.transfers if isinstance(asked, Bulk) else (asked,)
        road: list[Passed] | None = [] if self._on_road else None
        try:
            needed = await self._wallets(asked)
            outcomes = await self._put(asked, orders, needed, road)
        except BaseException as error:
            signals.answered(orders, [error] * len(orders))
            raise
        finally:
            if road and self._on_road:
                self._on_road(road)
        if needed.row_numbers:
            for outcome in outcomes:
                self._remember(outcome)
        signals.answered(orders, outcomes)
        return outcomes

    def _put(
        self, asked: Order | Bulk, orders: tuple[Order, ...], needed: _Needed, road: list[Passed] | None
    ) -> "asyncio.Future[list[Receipt | Refusal]]":
        """Queue orders that stay together; the future is their reply."""
        if not self._open:
            raise Stopping()
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[list[Receipt | Refusal]] = loop.create_future()
        self._mailboxes.put(
            Mail(
                orders=orders,
                wallet_ids=needed.wallet_ids,
                reply=reply,
                deadline=loop.time() + self.limits.deadline_seconds,
                road=road,
                bulk=asked if isinstance(asked, Bulk) else None,
                row_ids=needed.row_ids,
                row_numbers=needed.row_numbers,
            )
        )
        self._mail_has_come.set()
        return reply

    async def _wallets(self, asked: Order | Bulk) -> _Needed:
        """
        The wallets that are needed.

        Whether there is a wallet with such a number is for the rule to say.
        """
        if isinstance(asked, Transfer):
            receiver_id = self._wallet_ids.get(asked.receiver_number)
            if receiver_id is None:
                return _Needed((asked.wallet_id,), row_numbers=(asked.receiver_number,))
            return _Needed((asked.wallet_id, receiver_id))
        if isinstance(asked, Reverse):
            return _Needed(await self._wallets_of(asked.transaction_id))
        if isinstance(asked, Bulk):
            ids = {each.receiver_number: self._wallet_ids.get(each.receiver_number) for each in asked.transfers}
            known = tuple(id for id in ids.values() if id is not None)
            unknown = tuple(number for number, id in ids.items() if id is None)
            return _Needed((asked.wallet_id,), row_ids=known, row_numbers=unknown)
        return _Needed((asked.wallet_id,))

    def _remember(self, outcome: Receipt | Refusal) -> None:
        """Know the receiver from now on."""
        if isinstance(outcome, Receipt) and outcome.transaction and outcome.receiver_number:
            assert outcome.transaction.receiver_id
            self._wallet_ids[outcome.receiver_number] = outcome.transaction.receiver_id
            if len(self._wallet_ids) > self.limits.numbers_max:
                del self._wallet_ids[next(iter(self._wallet_ids))]

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

    async def _carry_out(self, batch: list[Mail], wait_for: frozenset[int] = frozenset()) -> None:
        wallet_ids = {wallet_id for mail in batch for wallet_id in mail.wallet_ids}
        ours = set(wallet_ids)  # they are busy because of this batch
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
                ours -= missed
                self._elsewhere |= missed
                self.locks.retry_soon(missed)
                batch = self._mailboxes.give_back(batch, missed)
            if batch:
                if fresh := [mail for mail in batch if not mail.missed]:
                    left_mailbox.taken(fresh, self.limits.deadline_seconds)
                # Whoever waits for a hot wallet in another process need not wait for our answers to be sent as well.
                batch = await settle(
                    batch,
                    rates=self._rates(),
                    patience_seconds=self.limits.patience_seconds,
                    begun=begun,
                    wait_for=wait_for,
                    before_answers=let_go,
                    on_silence=self._refuse_all,
                )
            if batch:
                ours -= self._try_again(batch, ours)
        except asyncio.CancelledError:  # draining has taken too long
            for mail in batch:
                mail.refuse(OutcomeUnknown())
            raise
        except Exception as error:  # a bug: those who wait must hear of it, and the lane goes on
            log.exception("a batch of %d mails failed", len(batch))
            for mail in batch:
                mail.refuse(error)
        finally:
            self._free(ours)
            let_go()
            await begun.end()

    def _refuse_all(self) -> None:
        """Tell all who wait that the database is silent: each batch would wait for it as long as the one before."""
        for mail in self._mailboxes.taken_out(lambda mail: not mail.in_doubt):
            mail.refuse(DatabaseUnavailable())

    def _try_again(self, mails: list[Mail], ours: set[int]) -> set[int]:
        """
        Have these tried again that need a row which somebody holds: beside the lane, or from their boxes in a moment.

        Returns those of our wallets that stay busy with that.
        """
        beside, back = self._patient(mails)
        kept = {wallet_id for mail in beside for wallet_id in mail.wallet_ids}
        if beside:
            task = asyncio.create_task(self._carry_out(beside, beside[0].held), context=Context())
            self._beside.add(task)
            task.add_done_callback(self._beside.discard)
        held = set[int]().union(*[mail.held for mail in back])
        elsewhere = self._mailboxes.set_aside(back) | (held & ours) - kept
        if elsewhere:
            self._elsewhere |= elsewhere
            times = min(max(mail.missed for mail in back), 10)
            pause = min(_PAUSE_SECONDS * 2**times, _PAUSE_MAX_SECONDS)
            asyncio.get_running_loop().call_later(pause, self._freed_elsewhere, elsewhere)
        return (kept | elsewhere) & ours

    def _patient(self, mails: list[Mail]) -> tuple[list[Mail], list[Mail]]:
        """
        Mails that have been missed often enough to wait for their rows, and the others.

        They are all that wait for the same wallet, or one mail alone that waits for several.
        """
        first = next((mail for mail in mails if mail.held and mail.missed >= _BESIDE_AFTER), None)
        if first is None or len(self._beside) >= _BESIDE_MAX:
            return [], mails
        if len(first.held) == 1:
            return split(mails, lambda mail: mail.held != first.held)
        return split(mails, lambda mail: mail is not first)

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
            mail.give_up(TooLate())
            self._mail_has_come.set()  # what waited behind it may not need the wallet that held it up

    async def _drain(self) -> None:
        end = asyncio.get_running_loop().time() + self.limits.drain_seconds
        while not self._mailboxes.idle and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - once a process
            await asyncio.sleep(0.01)
