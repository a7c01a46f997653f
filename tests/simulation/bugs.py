"""Bugs that our code does not have, one at a time: a simulation that finds none of them would be worth nothing."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from actors.engine import loading, locks, mailbox, settlement
from actors.engine.mailbox import Mail
from actors.engine.redis_connection import Script
from actors.orders import Order, Receipt
from actors.rules import apply
from actors.rules.book import Book
from db import ledger
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

    def overtaking(batch: list[Mail], has_to_wait: Callable[[Mail], bool]) -> tuple[list[Mail], list[Mail]]:
        return [mail for mail in batch if not has_to_wait(mail)], [mail for mail in batch if has_to_wait(mail)]

    with ExitStack() as stack:
        for module in (mailbox, settlement):
            stack.enter_context(patch.object(module, "split", overtaking))
        return stack.pop_all()


def who_is_parked_is_forgotten() -> AbstractContextManager[Any]:
    """A wallet is free again, and those that were parked under it are not told."""

    def free(self: mailbox.Mailboxes, wallet_ids: Iterable[int]) -> None:
        for wallet_id in wallet_ids:
            self._busy.discard(wallet_id)
            self._parked.pop(wallet_id, None)

    return patch.object(mailbox.Mailboxes, "free", free)


def doubt_is_not_looked_up() -> AbstractContextManager[Any]:
    """After a COMMIT without an answer the batch is just carried out once more."""

    async def careless(mails: list[Mail], *arguments: Any) -> Book:
        for mail in mails:
            mail.in_doubt = False
        return await loading.open_book(mails, *arguments)

    return patch.object(settlement, "open_book", careless)


def doubt_is_forgotten_in_the_mailbox() -> AbstractContextManager[Any]:
    """What was in doubt finds a row held, and is carried out like new when it is tried again."""
    set_aside = mailbox.Mailboxes.set_aside

    def careless(self: mailbox.Mailboxes, mails: list[Mail]) -> set[int]:
        for mail in mails:
            mail.in_doubt = False
        return set_aside(self, mails)

    return patch.object(mailbox.Mailboxes, "set_aside", careless)


def who_is_held_is_taken_for_not_there() -> AbstractContextManager[Any]:
    """A row that was skipped counts as one that does not exist."""

    async def careless(mails: list[Mail]) -> ledger.Loaded:
        loaded = await loading.lock(mails)
        return replace(loaded, held={})

    return patch.object(settlement, "lock", careless)


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
    doubt_is_forgotten_in_the_mailbox,
    who_is_held_is_taken_for_not_there,
    anybody_s_lock_is_released,
    deadlines_are_not_looked_at,
    keys_are_not_looked_up,
    reservations_are_not_honoured,
    nobody_asks_where_no_wake_up_comes,
]
