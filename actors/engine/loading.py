"""The book of a batch: what its orders need to know, read after its wallets are locked."""

from uuid import UUID

from actors.engine.mailbox import Mail
from actors.money import Rates
from actors.orders import Freeze, Reverse, Unfreeze, bulk_id, place_in
from actors.rules.book import Book, UsedKey
from db import ledger
from db.ledger import Loaded
from db.rows import KeyRow


async def lock(mails: list[Mail]) -> Loaded:
    """Lock those wallets of a batch that nobody holds, until the transaction ends, and read which keys are used."""
    wallet_ids = {wallet_id for mail in mails for wallet_id in mail.wallet_ids}
    wallet_ids.update(*[mail.row_ids for mail in mails if mail.row_ids])
    numbers = {number for mail in mails for number in mail.row_numbers}
    key_ids = [key.id for mail in mails if (key := mail.key)]
    return await ledger.load(wallet_ids, numbers, key_ids)


async def open_book(mails: list[Mail], loaded: Loaded, rates: Rates | None) -> Book:
    """
    Read what else the orders need whose wallets are locked.

    Of mails in doubt an earlier COMMIT may have happened: the orders that it has carried out are `done`.
    """
    doubtful = [mail for mail in mails if mail.in_doubt]
    key_rows = loaded.keys
    if doubtful:  # again: only now that the wallets are ours has whoever was committing come to an end
        key_rows = await keys_used([key.id for mail in mails if (key := mail.key)])
    of_keys = await ledger.transactions(_answered_under(key_rows, mails)) if key_rows else {}
    to_reverse = [order.transaction_id for mail in mails for order in mail.orders if isinstance(order, Reverse)]
    originals = await ledger.originals(to_reverse) if to_reverse else []
    used_keys = [UsedKey(row, of_keys[row.transaction_id]) for row in key_rows]
    book = Book(wallets=loaded.wallets, used_keys=used_keys, rates=rates, now=loaded.now, originals=originals)
    for transaction in of_keys.values():
        if transaction.sender_balance is not None:
            book.done[transaction.id] = transaction, transaction.sender_balance
    if doubtful:
        book.done |= await ledger.find([(order.id, mail.wallet_ids[0]) for mail in doubtful for order in mail.orders])
        # Whether the wallet is frozen does not tell: somebody else may have changed that since.
        freezes = [order.id for mail in doubtful for order in mail.orders if isinstance(order, Freeze | Unfreeze)]
        book.logged = await ledger.logged(freezes) if freezes else set()
    return book


async def keys_used(key_ids: list[UUID]) -> list[KeyRow]:
    """Those of these keys that are used by now."""
    return (await ledger.load([], [], key_ids)).keys if key_ids else []


def _answered_under(rows: list[KeyRow], mails: list[Mail]) -> set[UUID]:
    """The transactions that these keys may stand for: one, or as many as a bulk has."""
    ids = {row.transaction_id for row in rows}
    first_of = {row.id: row.transaction_id for row in rows}
    for mail in mails:
        if mail.bulk and mail.bulk.key and (first := first_of.get(mail.bulk.key.id)):
            ids.update(place_in(bulk_id(first), place) for place in range(len(mail.orders)))
    return ids
