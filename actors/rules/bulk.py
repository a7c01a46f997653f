"""
What a bulk does to a book: each of its transfers by the rule for one, in order. Pure: no await, no database, no clock.

Its key is remembered with the first transfer that happens, and knows the others by their ids, which count from the
bulk's. So a repeated request finds again what has happened, and tries what was refused.
"""

from copy import copy
from hashlib import sha256

from msgspec.structs import replace

from actors.orders import Bulk, Receipt, Transfer, bulk_id, place_in
from actors.refusals import BulkRefused, IdempotencyKeyReused, RatesUnavailable, Refusal
from actors.rules.apply import apply
from actors.rules.book import Book, UsedKey
from actors.rules.payments import refuse_unless_sent


def apply_all(bulk: Bulk, book: Book) -> list[Receipt | Refusal]:
    """
    Carry out a bulk, or answer again what of it has happened already: each transfer's receipt or refusal, by position.

    Raises:
        Refusal: of the whole; nothing has changed.
    """
    used = book.used_keys.get(bulk.key.id) if bulk.key else None
    if used and used.row.fingerprint != fingerprint(bulk):
        raise IdempotencyKeyReused()
    book.owned(bulk.wallet_id, bulk.caller_id)
    if bulk.atomic and not used and bulk.transfers[0].id not in book.done:
        _refuse_unless_all_sent(bulk, book)
    before = book.mark(_wallet_ids(bulk, book)) if bulk.atomic else None
    outcomes = _replay(bulk, used, book) if used else [_find_or_apply(each, book) for each in bulk.transfers]
    if before and (refused := [(place, each) for place, each in enumerate(outcomes) if isinstance(each, Refusal)]):
        book.undo(before)
        raise _refusal_of_all(refused)
    if bulk.key:
        made = [
            (outcome.transaction, outcome.balance_after)
            for outcome in outcomes
            if isinstance(outcome, Receipt) and outcome.transaction
        ]
        book.done.update((transaction.id, (transaction, balance)) for transaction, balance in made)
        if made and not used:
            book.remember(bulk.key, fingerprint(bulk), *made[0])
    return outcomes


def fingerprint(bulk: Bulk) -> bytes:
    """A digest of what was asked, whatever its id: two bulks with the same one ask the same, and no order does."""
    asked = [f"Bulk {bulk.wallet_id} {bulk.atomic}"]
    # No text of a person's has control characters, so these can't be mistaken for a part of one.
    asked += [f"{each.receiver_number}\x1f{each.amount}\x1f{each.reference or ''}" for each in bulk.transfers]
    return sha256("\n".join(asked).encode()).digest()


def _replay(bulk: Bulk, used: UsedKey, book: Book) -> list[Receipt | Refusal]:
    """What has happened, as it was answered then; what was refused is tried again, under the ids of that request."""
    first = bulk_id(used.transaction.id)
    if first == bulk.id:  # this very request, looked up because its COMMIT was in doubt
        return [_find_or_apply(each, book) for each in bulk.transfers]
    as_then = (replace(each, id=place_in(first, place)) for place, each in enumerate(bulk.transfers))
    return [_find_or_apply(each, book, replayed=True) for each in as_then]


def _find_or_apply(transfer: Transfer, book: Book, *, replayed: bool = False) -> Receipt | Refusal:
    if found := book.done.get(transfer.id):
        return book.receipt(*found, replayed=replayed)
    try:
        return apply(transfer, book)
    except Refusal as refusal:
        return refusal


def _refuse_unless_all_sent(bulk: Bulk, book: Book) -> None:
    """
    Refuse what the sender could not send, before any receiver is looked at.

    Who can't pay for the whole learns nothing of those who were to be paid, by which of the transfers is named either.
    """
    sender = copy(book.wallets[bulk.wallet_id])
    refused: list[tuple[int, Refusal]] = []
    for place, each in enumerate(bulk.transfers):
        try:
            refuse_unless_sent(each, sender)
        except Refusal as refusal:
            refused.append((place, refusal))
        else:
            sender.amount -= each.amount
    if refused:
        raise BulkRefused(refused)


def _refusal_of_all(refused: list[tuple[int, Refusal]]) -> Refusal:
    if all(isinstance(each, RatesUnavailable) for _, each in refused):
        return RatesUnavailable()  # nothing is wrong with the request: it can be repeated as it is
    return BulkRefused(refused)


def _wallet_ids(bulk: Bulk, book: Book) -> set[int]:
    """All that the bulk may change."""
    receivers = (book.numbers.get(each.receiver_number) for each in bulk.transfers)
    return {bulk.wallet_id, *(receiver.id for receiver in receivers if receiver)}
