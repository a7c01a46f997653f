"""
Per-wallet queues: who waits behind whom, which wallets are busy, what the next batch is. No I/O, no clock.

A mail waits in the box of its acting wallet (the sender; for a deposit the receiver). A wallet with mail is either
ready, or parked under a busy wallet that its first mail needs. A busy wallet is in a batch, or is held elsewhere.
Every step costs the mails it moves and nothing else; a wallet's own mails never overtake each other.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from msgspec import Struct

from actors.orders import Order, Receipt
from actors.refusals import Overloaded


class Answer(Protocol):
    """What an `asyncio.Future` offers to whoever answers it."""

    def done(self) -> bool: ...
    def set_result(self, result: Receipt, /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


class Mail(Struct, eq=False):
    """An order on its way: the wallets it needs (the acting one first), who waits for it, and until when."""

    order: Order
    wallet_ids: tuple[int, ...]
    answer: Answer
    deadline: float  # on the event loop's clock, in seconds
    road: list[Any] | None = None  # the stages it has passed, where somebody traces it

    def refuse(self, refusal: Exception) -> None:
        """Answer with a refusal, unless whoever asked has gone."""
        if not self.answer.done():
            self.answer.set_exception(refusal)

    def receive(self, receipt: Receipt) -> None:
        """Answer with a receipt, unless whoever asked has gone."""
        if not self.answer.done():
            self.answer.set_result(receipt)


class Mailboxes:
    """All mail that waits in this process."""

    def __init__(self, *, per_wallet_max: int, total_max: int) -> None:
        self.per_wallet_max = per_wallet_max
        self.total_max = total_max
        self.waiting = 0
        self._boxes: dict[int, deque[Mail]] = {}
        self._ready: dict[int, None] = {}  # dicts as ordered sets: no wallet stands in a queue twice
        self._busy: set[int] = set()
        self._parked: dict[int, dict[int, None]] = {}

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._boxes and not self._busy

    def put(self, mail: Mail) -> None:
        """
        Queue a mail behind the earlier ones of its acting wallet.

        Raises:
            Overloaded: this wallet, or the process, has all the mail it can hold.
        """
        wallet_id = mail.wallet_ids[0]
        box = self._boxes.get(wallet_id)
        if self.waiting >= self.total_max or (box and len(box) >= self.per_wallet_max):
            raise Overloaded()
        if box is None:
            self._boxes[wallet_id] = deque([mail])
            self._ready[wallet_id] = None
        else:
            box.append(mail)
        self.waiting += 1

    def take(self, most: int) -> list[Mail]:
        """The next batch, in order: mails whose wallets are free or already in it. Its wallets are busy from now on."""
        batch: list[Mail] = []
        mine: set[int] = set()
        turns = len(self._ready)
        while turns and len(batch) < most:
            turns -= 1
            wallet_id = next(iter(self._ready))
            del self._ready[wallet_id]
            box = self._boxes.get(wallet_id)
            while box and len(batch) < most:
                needed = box[0].wallet_ids
                held = next((id for id in needed if id in self._busy and id not in mine), None)
                if held is not None:
                    self._parked.setdefault(held, {})[wallet_id] = None
                    break
                batch.append(box.popleft())
                mine.update(needed)
                self._busy.update(needed)
            else:
                self._done_with(wallet_id, box)
        self.waiting -= len(batch)
        return batch

    def give_back(self, batch: list[Mail], missed: set[int]) -> list[Mail]:
        """
        Put the mails that need a missed wallet back at the head of their boxes, and return the others, in order.

        Later mails of the same box go back too, so that none overtakes. Missed wallets stay busy until `free`d.
        """
        kept: list[Mail] = []
        returned: list[Mail] = []
        stalled: set[int] = set()
        for mail in batch:
            if mail.wallet_ids[0] in stalled or not missed.isdisjoint(mail.wallet_ids):
                stalled.add(mail.wallet_ids[0])
                returned.append(mail)
            else:
                kept.append(mail)
        for mail in reversed(returned):
            wallet_id = mail.wallet_ids[0]
            if wallet_id in self._boxes:
                self._boxes[wallet_id].appendleft(mail)
            else:
                self._boxes[wallet_id] = deque([mail])
            self._ready[wallet_id] = None
        self.waiting += len(returned)
        return kept

    def free(self, wallet_ids: Iterable[int]) -> None:
        """These wallets are nobody's any more: whoever was parked under them is ready."""
        for wallet_id in wallet_ids:
            self._busy.discard(wallet_id)
            for parked in self._parked.pop(wallet_id, ()):
                if parked in self._boxes:
                    self._ready[parked] = None

    def expired(self, now: float) -> Iterator[Mail]:
        """Take out the mails whose deadline has passed: they will not be carried out any more."""
        for wallet_id, box in list(self._boxes.items()):
            if box[0].deadline > now:
                continue
            while box and box[0].deadline <= now:
                self.waiting -= 1
                yield box.popleft()
            if box:  # its next mail may not need the wallet that it is parked under
                self._ready[wallet_id] = None
            else:
                del self._boxes[wallet_id]

    def _done_with(self, wallet_id: int, box: deque[Mail] | None) -> None:
        if box:  # the batch is full: back to the end of the queue, the others are next
            self._ready[wallet_id] = None
        elif box is not None:
            del self._boxes[wallet_id]
