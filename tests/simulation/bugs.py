"""Bugs that our code does not have, one at a time: a simulation that finds none of them would be worth nothing."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from actors.engine import loading, locks, mailbox, settlement
from actors.engine.mailbox import Mail
from actors.engine.redis_connection import Script
from actors.orders import Order, Receipt
from actors.rules import apply
from actors.rules.book import Book
from tests.simulation.redis_client import Subscription

Bug = Callable[[], AbstractContextManager[Any]]


def wake_ups_before_the_answer_are_lost() -> AbstractContextManager[Any]:
    """A wallet is freed while Redis still says that it can't be had, and nobody remembers that."""

    class Deaf(set[int]):
        def __ior__(self, _: object) -> "Deaf":  # type: ignore[override]
            return self

    begin = locks.Locks.__init__

    def init(self: locks.Locks, *arguments: Any) -> None:
        begin(self, *arguments)
        self._woken = Deaf()

    return patch.object(locks.Locks, "__init__", init)


def later_mail_overtakes_what_is_given_back() -> AbstractContextManager[Any]:
    """Where one mail of a wallet has to wait, those behind it in the same batch do not."""
    give_back = mailbox.Mailboxes.give_back

    def overtaking(self: mailbox.Mailboxes, batch: list[Mail], missed: set[int]) -> list[Mail]:
        give_back(self, [mail for mail in batch if not missed.isdisjoint(mail.wallet_ids)], missed)
        return [mail for mail in batch if missed.isdisjoint(mail.wallet_ids)]

    return patch.object(mailbox.Mailboxes, "give_back", overtaking)


def who_is_parked_is_forgotten() -> AbstractContextManager[Any]:
    """A wallet is free again, and those that were parked under it are not told."""

    def free(self: mailbox.Mailboxes, wallet_ids: Iterable[int]) -> None:
        for wallet_id in wallet_ids:
            self._busy.discard(wallet_id)
            self._parked.pop(wallet_id, None)

    return patch.object(mailbox.Mailboxes, "free", free)


def doubt_is_not_looked_up() -> AbstractContextManager[Any]:
    """After a COMMIT without an answer the batch is just carried out once more."""

    async def careless(mails: Any, rates: Any, *, in_doubt: bool) -> Book:
        return await loading.open_book(mails, rates, in_doubt=False)

    return patch.object(settlement, "open_book", careless)


def anybody_s_lock_is_released() -> AbstractContextManager[Any]:
    """A release comes after the lease has ended, and takes away the lock of whoever has it now."""
    release = Script(locks._RELEASE.text.replace("values[i] == token", "values[i]"))
    return patch.object(locks, "_RELEASE", release)


def deadlines_are_not_looked_at() -> AbstractContextManager[Any]:
    """What is tried once more is carried out however late it is."""

    def patient(mails: list[Mail], _now: float) -> list[Mail]:
        return mails

    return patch.object(settlement, "_in_time", patient)


def keys_are_not_looked_up() -> AbstractContextManager[Any]:
    """A request that comes again under its key is carried out again."""

    def careless(order: Order, book: Book) -> Receipt:
        return apply._RULES[type(order)](order, book)

    return patch.object(settlement, "apply", careless)


def reservations_are_not_honoured() -> AbstractContextManager[Any]:
    """A free wallet is whose it is asked for first, whoever has waited for it."""
    text = locks._TAKE.text.replace("or (queue and first(queue) ~= owner)", "")
    text = text.replace("elseif queue then", "elseif queue and first(queue) == owner then")
    return patch.object(locks, "_TAKE", Script(text))


def nobody_asks_where_no_wake_up_comes() -> AbstractContextManager[Any]:
    """Whose connection for wake-ups has died without a word waits for them for ever."""
    get_message = Subscription.get_message

    async def patient(self: Subscription, timeout: float | None) -> dict[str, Any] | None:  # noqa: ASYNC109
        return await get_message(self, None)

    return patch.object(Subscription, "get_message", patient)


BUGS: list[Bug] = [
    wake_ups_before_the_answer_are_lost,
    later_mail_overtakes_what_is_given_back,
    who_is_parked_is_forgotten,
    doubt_is_not_looked_up,
    anybody_s_lock_is_released,
    deadlines_are_not_looked_at,
    keys_are_not_looked_up,
    reservations_are_not_honoured,
    nobody_asks_where_no_wake_up_comes,
]
