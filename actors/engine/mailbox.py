"""
Per-wallet queues: who waits behind whom, which wallets are busy, what the next batch is. No I/O, no clock.

A mail is an order, or many that arrive together. It waits in the box of its acting wallet (the sender; for a deposit
the receiver). A wallet with mail is either ready, or parked under a busy wallet that its first mail needs. A busy
wallet is in a batch, or is held elsewhere. Every step costs the mails it moves and nothing else; a wallet's own mails
never overtake each other. Whatever is bounded is counted in orders.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from msgspec import Struct

from actors.orders import Bulk, IdempotencyKey, Order, Receipt
from actors.refusals import Crowded, OutcomeUnknown, Overloaded, Refusal


class Passed(Struct, frozen=True):
    """A stage that an order has passed, in nanoseconds since 1970."""

    name: str
    started_ns: int
    ended_ns: int


class Reply(Protocol):
    """What an `asyncio.Future` offers to whoever has the reply to a mail."""

    def done(self) -> bool: ...
    def set_result(self, result: list[Receipt | Refusal], /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


class Mail(Struct, eq=False, kw_only=True):
    """
    Orders on their way together: the wallets they need (the acting one first), who waits for them, and until when.

    Nearly always it is one order. Nobody queues for the wallets of `row_ids` and `row_numbers`, or locks them before
    their rows: those that a bulk pays, and those of which only the number is known. See
    `docs/decisions/0013-bulk-transfers.md` and `0015-unknown-receivers.md`.
    """

    orders: tuple[Order, ...]
    wallet_ids: tuple[int, ...]
    reply: Reply
    deadline: float  # on the event loop's clock, in seconds
    road: list[Passed] | None = None  # the stages it has passed, where somebody traces it
    bulk: Bulk | None = None  # where the orders are those of one
    row_ids: tuple[int, ...] = ()
    row_numbers: tuple[str, ...] = ()
    in_doubt: bool = False
    """A COMMIT of it was not answered: it is looked up under its wallets' locks before anything else is said of it."""
    held: frozenset[int] = frozenset()
    """The wallets for want of whose rows it was not carried out when it was last tried."""
    missed: int = 0
    """How many times that was so."""

    @property
    def key(self) -> IdempotencyKey | None:
        """The key of the order, or that of the whole bulk."""
        return self.bulk.key if self.bulk else getattr(self.orders[0], "key", None)

    def refuse(self, refusal: Exception) -> None:
        """Refuse the whole, unless whoever asked has gone."""
        if not self.reply.done():
            self.reply.set_exception(refusal)

    def give_up(self, refusal: Refusal) -> None:
        """Refuse the whole, unless a COMMIT of it is in doubt: then nobody knows what became of it."""
        self.refuse(OutcomeUnknown() if self.in_doubt else refusal)

    def receive(self, outcomes: list[Receipt | Refusal]) -> None:
        """Answer with what each order came to, unless whoever asked has gone."""
        if not self.reply.done():
            self.reply.set_result(outcomes)


class _Box(deque[Mail]):
    """The mail of one wallet, and how many orders that is."""

    orders = 0


class Mailboxes:
    """All mail that waits in this process."""

    def __init__(self, *, per_wallet_max: int, total_max: int) -> None:
        self.per_wallet_max = per_wallet_max
        self.total_max = total_max
        self.waiting = 0
        self._boxes: dict[int, _Box] = {}
        self._ready: OrderedDict[int, None] = OrderedDict()  # as ordered sets: no wallet stands in a queue twice
        self._busy: set[int] = set()
        self._parked: dict[int, dict[int, None]] = {}

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._boxes and not self._busy

    def put(self, mail: Mail) -> None:
        """
        Queue a mail behind the earlier ones of its acting wallet.

        A bound that is smaller than the mail lets it in where nothing else waits: else it could never come.

        Raises:
            Overloaded: this wallet has all the mail it can hold.
            Crowded: the process has.
        """
        wallet_id = mail.wallet_ids[0]
        orders = len(mail.orders)
        box = self._boxes.get(wallet_id)
        if self.waiting and self.waiting + orders > self.total_max:
            raise Crowded()
        if box is None:
            box = self._boxes[wallet_id] = _Box()
            self._ready[wallet_id] = None
        elif box.orders + orders > self.per_wallet_max:
            raise Overloaded()
        box.append(mail)
        box.orders += orders
        self.waiting += orders

    def take(self, most: int) -> list[Mail]:
        """
        The next batch, in order: mails whose wallets are free or already in it. Its wallets are busy from now on.

        It has at most so many orders; a mail of more makes a batch alone.
        """
        batch: list[Mail] = []
        mine: set[int] = set()
        orders = 0
        turns = len(self._ready)
        while turns and orders < most:
            turns -= 1
            wallet_id, _ = self._ready.popitem(last=False)
            box = self._boxes.get(wallet_id)
            before = orders
            while box and orders < most:
                needed = box[0].wallet_ids
                held = next((id for id in needed if id in self._busy and id not in mine), None)
                if held is not None:
                    self._parked.setdefault(held, {})[wallet_id] = None
                    break
                if orders and orders + len(box[0].orders) > most:
                    self._ready[wallet_id] = None
                    if orders == before:  # it has given nothing: first in line for the next batch, which has room
                        self._ready.move_to_end(wallet_id, last=False)
                        turns = 0
                    break
                mail = self._pop(box)
                batch.append(mail)
                orders += len(mail.orders)
                mine.update(needed)
                self._busy.update(needed)
            else:
                self._done_with(wallet_id, box)
        return batch

    def give_back(self, batch: list[Mail], missed: set[int]) -> list[Mail]:
        """
        Put the mails that need a missed wallet back at the head of their boxes, and return the others, in order.

        Later mails of the same box go back too, so that none overtakes. Missed wallets stay busy until `free`d.
        """
        kept, returned = split(batch, lambda mail: not missed.isdisjoint(mail.wallet_ids))
        self._put_back(returned)
        return kept

    def set_aside(self, mails: list[Mail]) -> set[int]:
        """
        Put mails of a batch back at the head of their boxes, each parked under a wallet whose row it found `held`.

        Returns those of these wallets that were nobody's: they are busy until `free`d. One that is in a batch is freed
        with that.
        """
        self._put_back(mails)
        taken: set[int] = set()
        for mail in reversed(mails):
            if mail.held:  # else it stands behind one that has found a row held
                under = min(mail.held)
                self._ready.pop(mail.wallet_ids[0], None)
                self._parked.setdefault(under, {})[mail.wallet_ids[0]] = None
                taken |= mail.held - self._busy
        self._busy |= taken
        return taken

    def free(self, wallet_ids: Iterable[int]) -> None:
        """These wallets are nobody's any more: whoever was parked under them is ready."""
        for wallet_id in wallet_ids:
            self._busy.discard(wallet_id)
            for parked in self._parked.pop(wallet_id, ()):
                if parked in self._boxes:
                    self._ready[parked] = None

    def expired(self, now: float) -> Iterator[Mail]:
        """Take out the mails whose deadline has passed: they will not be carried out any more."""
        return self.taken_out(lambda mail: mail.deadline <= now)

    def taken_out(self, has_to_go: Callable[[Mail], bool]) -> Iterator[Mail]:
        """Take out, from the head of each box, the mails that have to go."""
        for wallet_id, box in list(self._boxes.items()):
            if not has_to_go(box[0]):
                continue
            while box and has_to_go(box[0]):
                yield self._pop(box)
            if box:  # its next mail may not need the wallet that it is parked under
                self._ready[wallet_id] = None
            else:
                del self._boxes[wallet_id]

    def _put_back(self, mails: list[Mail]) -> None:
        for mail in reversed(mails):
            wallet_id = mail.wallet_ids[0]
            box = self._boxes.get(wallet_id)
            if box is None:
                box = self._boxes[wallet_id] = _Box()
            box.appendleft(mail)
            box.orders += len(mail.orders)
            self.waiting += len(mail.orders)
            self._ready[wallet_id] = None

    def _pop(self, box: _Box) -> Mail:
        mail = box.popleft()
        box.orders -= len(mail.orders)
        self.waiting -= len(mail.orders)
        return mail

    def _done_with(self, wallet_id: int, box: _Box | None) -> None:
        if box:  # the batch is full: back to the end of the queue, the others are next
            self._ready[wallet_id] = None
        elif box is not None:
            del self._boxes[wallet_id]


def split(batch: list[Mail], has_to_wait: Callable[[Mail], bool]) -> tuple[list[Mail], list[Mail]]:
    """The mails that go on, and those that wait, with all that is behind them in their boxes; both in order."""
    going: list[Mail] = []
    waiting: list[Mail] = []
    stalled: set[int] = set()
    for mail in batch:
        if has_to_wait(mail) or mail.wallet_ids[0] in stalled:
            stalled.add(mail.wallet_ids[0])
            waiting.append(mail)
        else:
            going.append(mail)
    return going, waiting
