"""How many wallet numbers a person may find out about in a day without paying them."""

import asyncio
import logging
from asyncio import timeout
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256
from time import monotonic
from typing import TypeVar
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.bank import Bank
from actors.engine.redis_client import redis_fault
from actors.engine.seldom import Seldom
from actors.orders import Bulk, Receipt, Transfer
from actors.refusals import (
    AmountTooLarge,
    AmountTooSmall,
    BulkRefused,
    FieldError,
    Overloaded,
    ReceiverNotFound,
    ReceiverUnavailable,
    Refusal,
)
from app.limits.requests import COUNT_SECONDS, DAY_SECONDS, RateLimited, limit_key
from app.limits.room import make_room
from app.limits.windows import WINDOWS
from app.payments.paid_before import PaidBefore
from db.tables import IdempotencyKey

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

POLICY = "unpaid-numbers-per-user"
PEOPLE_MAX = 50_000
TURNS_MAX = 8  # so many tell Redis at once; whoever waits for that does so within `COUNT_SECONDS`
ERRORS_MAX = 50
# A bulk that is undone tells of so many numbers that they could be paid at the price of one that could not.
UNDONE_AT_THE_PRICE_OF_ONE = 100

_ADD = f"""{WINDOWS}
forget_if_it_outlasts(KEYS[1], ARGV[1])
for i = 2, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
return {{redis.call('SCARD', KEYS[1]), ms_left(KEYS[1], ARGV[1])}}
"""

OF_RECEIVER = (ReceiverNotFound, ReceiverUnavailable, AmountTooSmall, AmountTooLarge)
"""The refusals that tell something of the number that was to be paid: that it is nobody's, frozen, or its currency."""


class TooManyUnpaid(RateLimited):
    """Somebody has tried too many numbers that could not be paid."""

    def __init__(self, most: int, wait_seconds: int, errors: Collection[FieldError] = ()) -> None:
        super().__init__(
            POLICY,
            most=most,
            window_seconds=DAY_SECONDS,
            wait_seconds=wait_seconds,
            detail=(
                f"Of the wallet numbers that you have tried within a day, {most} could not be paid. Until"
                f" {wait_seconds} seconds from now you can pay only those that you have paid before."
            ),
        )
        self.errors = tuple(errors)


class _Person:
    """What one person has tried, in this process and as far as Redis has told in the others."""

    __slots__ = ("asking", "ends_at", "present", "refused", "told", "total", "waiting")

    def __init__(self) -> None:
        self.waiting: _Waiting | None = None  # from the first who has to wait until the last has left
        self.present = 0  # requests
        self.asking = 0  # the numbers of those that are with the bank
        self.begin()

    def begin(self) -> None:
        """A new day."""
        self.ends_at = monotonic() + DAY_SECONDS
        self.refused: set[str] = set()
        self.total = 0
        self.told = True

    @property
    def used(self) -> int:
        return max(len(self.refused), self.total)


class _Waiting:
    """Where a person's requests wait for room, in order."""

    def __init__(self) -> None:
        self.door = asyncio.Lock()
        self.left = asyncio.Event()


class ProbingLimit:
    """
    The bank's door for transfers, in front of which tried numbers are counted.

    A payment that is refused because of its receiver tells whether there is such a wallet, and whether it takes money.
    Once a person has learned that of `most` different numbers in a day, only those that they have paid before are let
    through, before anybody looks for the number. Numbers that this process has not met are asked about by no more at a
    time than the person has left, the others wait; so parallel requests learn no more. A bulk may go beyond it once,
    since it is counted when it is answered; one that is all or nothing and is undone costs more, by its size.

    Counted in Redis over all processes; another process hears of it with the first number that it counts itself. Where
    Redis is late or gone, each process goes by its own count. 0 switches it off.
    """

    def __init__(self, bank: Bank, redis: Redis, most: int) -> None:
        self.bank = bank
        self._most = most
        self._people: dict[UUID, _Person] = {}  # with a refused number or a request under way; oldest first
        self._paid = PaidBefore()
        self._turns = asyncio.Semaphore(TURNS_MAX)
        self._add = redis.register_script(_ADD)
        self._asks_again_at = 0.0
        self._alone = Seldom(log, "unpaid numbers are counted by each process alone: Redis %s")

    async def transfer(self, order: Transfer) -> Receipt:
        """As `Bank.perform`. Raises `TooManyUnpaid` besides."""
        caller_id, number = order.caller_id, order.receiver_number
        if not self._most:
            return await self.bank.perform(order)
        if caller_id not in self._people and self.bank.has_met(number):  # nearly always
            try:
                return await self.bank.perform(order)
            except OF_RECEIVER:
                await self._count(caller_id, self._person(caller_id), {number})
                raise

        async def pay(refused: set[str]) -> Receipt:
            try:
                return await self.bank.perform(order)
            except OF_RECEIVER:
                refused.add(number)
                raise

        return await self._ask(caller_id, (number,), pay)

    async def bulk(self, bulk: Bulk) -> list[Receipt | Refusal]:
        """As `Bank.perform_all`. Raises `TooManyUnpaid` besides, naming the transfers to numbers not paid before."""
        if not self._most:
            return await self.bank.perform_all(bulk)
        numbers = [each.receiver_number for each in bulk.transfers]

        async def pay(refused: set[str]) -> list[Receipt | Refusal]:
            try:
                outcomes = await self.bank.perform_all(bulk)
            except BulkRefused as refusal:
                refused.update(numbers[place] for place, each in refusal.refused if isinstance(each, OF_RECEIVER))
                if refused:  # it has also told that the others could be paid
                    refused.update(
                        f"bulk {bulk.id} {n}" for n in range(0, len(set(numbers)), UNDONE_AT_THE_PRICE_OF_ONE)
                    )
                raise
            refused.update(
                number for number, each in zip(numbers, outcomes, strict=True) if isinstance(each, OF_RECEIVER)
            )
            return outcomes

        return await self._ask(bulk.caller_id, numbers, pay, bulk)

    async def _ask(
        self,
        user_id: UUID,
        numbers: Sequence[str],
        pay: Callable[[set[str]], Awaitable[Answer]],
        bulk: Bulk | None = None,
    ) -> Answer:
        """What comes of paying these numbers, in a place of its own. `pay` adds those that were refused to the set."""
        person = self._person(user_id)
        person.present += 1
        asking, over, refused = 0, False, set[str]()
        try:
            unmet = len({number for number in numbers if not self.bank.has_met(number)})
            if unmet:
                await self._wait_for_room(person, unmet)
            over = person.used >= self._most
            if over:
                if not person.told:
                    await self._count(user_id, person, refused)
                await self._refuse_unpaid(user_id, person, numbers, bulk)
            else:
                asking = unmet
                person.asking += asking
            return await pay(refused)
        finally:
            try:
                if refused and not over:  # of those that were paid before, nothing is found out
                    await self._count(user_id, person, refused)
            finally:
                person.asking -= asking
                person.present -= 1
                if person.waiting:
                    person.waiting.left.set()
                if not person.present:
                    person.waiting = None
                    if not person.refused:
                        self._people.pop(user_id, None)

    def _person(self, user_id: UUID) -> _Person:
        person = self._people.get(user_id)
        if person is None:
            if len(self._people) >= PEOPLE_MAX:
                # Whoever is told of can be learned of again; of the others nobody else knows.
                now = monotonic()
                make_room(self._people, lambda each: not each.present and (each.told or each.ends_at <= now))
            person = self._people[user_id] = _Person()
        elif person.ends_at <= monotonic():
            del self._people[user_id]  # to be the youngest again
            person.begin()
            self._people[user_id] = person
        return person

    async def _wait_for_room(self, person: _Person, asking: int) -> None:
        """What is beyond what is left waits until nothing else of the person's is with the bank, and is alone then."""

        def room() -> bool:
            return not person.asking or person.used + person.asking + asking <= self._most

        if room() and not person.waiting:
            return
        waiting = person.waiting = person.waiting or _Waiting()
        try:
            async with timeout(self.bank.limits.deadline_seconds), waiting.door:
                while not room():
                    waiting.left.clear()
                    await waiting.left.wait()
        except TimeoutError:
            raise Overloaded() from None

    async def _refuse_unpaid(self, user_id: UUID, person: _Person, numbers: Sequence[str], bulk: Bulk | None) -> None:
        paid = await self._paid.among(user_id, numbers, seconds=self.bank.limits.deadline_seconds)
        unpaid = [place for place, number in enumerate(numbers) if number not in paid]
        # Under a key that was used, whoever asks again hears what happened, and of no other numbers than then.
        key = bulk.key if bulk else None
        if unpaid and not (key and await IdempotencyKey.exists().where(IdempotencyKey.id == key.id)):
            errors = [
                FieldError(field=f"transfers[{place}].wallet_number", message="You have not paid this number before.")
                for place in unpaid[:ERRORS_MAX]
            ]
            wait_seconds = max(1, int(person.ends_at - monotonic()))
            raise TooManyUnpaid(self._most, wait_seconds, errors if bulk else ())

    async def _count(self, user_id: UUID, person: _Person, refused: set[str]) -> None:
        person.refused |= refused
        person.told = False
        if monotonic() < self._asks_again_at:
            return
        key = limit_key(POLICY, str(user_id))
        try:
            async with timeout(COUNT_SECONDS), self._turns:
                # All of them: Redis may have been away, or lost some.
                numbers = map(_digest, person.refused)
                person.total, left_ms = await self._add(keys=[key], args=[DAY_SECONDS * 1000, *numbers])
        except (RedisError, OSError) as error:
            self._asks_again_at = monotonic() + COUNT_SECONDS
            self._alone.warn(redis_fault(error))
            return
        person.told = True
        person.ends_at = monotonic() + left_ms / 1000


def _digest(number: str) -> str:
    return sha256(number.encode()).hexdigest()[:16]
