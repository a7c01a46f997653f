"""The wallets of one batch in memory, and what has been posted to them. Pure: time and rates are in the book."""

from collections.abc import Iterable
from copy import copy
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct

from actors.money import BALANCE_MAX, PAYMENT_MAX, Rates, convert
from actors.orders import IdempotencyKey, Receipt
from actors.refusals import AmountTooLarge, AmountTooSmall, RatesUnavailable, ReceiverNotFound, WalletNotFound
from db.clocks import CLOCKS_DIFFER
from db.currencies import SYSTEM_WALLET_IDS
from db.rows import Changes, EntryRow, KeyRow, OriginalRow, TransactionRow, WalletRow

DEPOSIT, WITHDRAW, TRANSFER, FEE = "DEPOSIT", "WITHDRAW", "TRANSFER", "FEE"

# The system wallet on the other side of a movement that has only one wallet of a person.
CONTRA = {DEPOSIT: "cash", WITHDRAW: "cash", FEE: "fees"}


class UsedKey(Struct, frozen=True):
    """An idempotency key that was used, and the transaction it belongs to."""

    row: KeyRow
    transaction: TransactionRow


class Mark(Struct, frozen=True):
    """Where a book can be undone to: how much had changed, and what some wallets looked like."""

    transactions: int
    entries: int
    changed: int  # wallets
    wallets: list[tuple[WalletRow, WalletRow]]  # as they go on, and as they were


class Book:
    """
    What the rules see of the world: locked wallets, used keys, the time, the rates.

    Rules change wallets only through `post` and the fee's own functions, so every change is also in `changes`.
    """

    def __init__(
        self,
        *,
        wallets: Iterable[WalletRow],
        used_keys: Iterable[UsedKey],
        rates: Rates | None,
        now: datetime,
        originals: Iterable[OriginalRow] = (),
    ) -> None:
        self.wallets = {wallet.id: wallet for wallet in wallets}
        self.numbers = {wallet.number: wallet for wallet in self.wallets.values()}
        self.used_keys = {key.row.id: key for key in used_keys}
        self.originals = {original.transaction.id: original for original in originals}
        # What has happened, with the balance it left in the acting wallet: of bulks whose key is used, and of orders
        # whose COMMIT was in doubt.
        self.done: dict[UUID, tuple[TransactionRow, Decimal]] = {}
        # Of orders whose COMMIT was in doubt: those that stand in the log of staff. Not all of them moved money.
        self.logged: set[UUID] = set()
        self.rates = rates
        self.now = now
        self._soon = now + CLOCKS_DIFFER
        self.changes = Changes()

    def owned(self, wallet_id: int, caller_id: UUID) -> WalletRow:
        """
        The caller's wallet with this id.

        Raises:
            WalletNotFound: there is none, or it is somebody else's: nobody learns which.
        """
        wallet = self.wallets.get(wallet_id)
        if wallet is None or wallet.user_id != caller_id:
            raise WalletNotFound()
        return wallet

    def numbered(self, number: str) -> WalletRow:
        """
        The wallet with this number, whoever's it is.

        Raises:
            ReceiverNotFound: there is none.
        """
        wallet = self.numbers.get(number)
        if wallet is None:
            raise ReceiverNotFound()
        return wallet

    def number(self, wallet_id: int | None) -> str | None:
        """The number of a wallet in this book; None stands for the outside world."""
        return None if wallet_id is None else self.wallets[wallet_id].number

    def receipt(self, transaction: TransactionRow, balance_after: Decimal, *, replayed: bool = False) -> Receipt:
        """What is answered for a transaction between wallets of this book."""
        return Receipt(
            transaction=transaction,
            balance_after=balance_after,
            sender_number=self.number(transaction.sender_id),
            receiver_number=self.number(transaction.receiver_id),
            replayed=replayed,
        )

    def rate(self, base: str, quote: str) -> Decimal | None:
        """
        The rate from one currency to another; None where they are the same.

        Raises:
            RatesUnavailable: no rate is known, or the last one is too old to be believed.
        """
        if base == quote:
            return None
        if self.rates is None or self.now > self.rates.valid_until or not self.rates.know(base, quote):
            raise RatesUnavailable()
        return self.rates.rate(base, quote)

    def exchange(self, amount: Decimal, base: str, quote: str) -> tuple[Decimal, Decimal | None]:
        """
        What `amount` of one currency is in another, rounded down to the cent, and the rate used.

        Raises:
            RatesUnavailable: see `rate`.
            AmountTooSmall: less than a cent would arrive.
            AmountTooLarge: more would arrive than one payment may move.
        """
        rate = self.rate(base, quote)
        received = amount if rate is None else convert(amount, rate)
        if not received:
            raise AmountTooSmall()
        if received > PAYMENT_MAX:
            raise AmountTooLarge()
        return received, rate

    def post(
        self,
        id: UUID,
        operation_type: str,
        *,
        sender: WalletRow | None = None,
        receiver: WalletRow | None = None,
        amount: Decimal,
        received: Decimal | None = None,
        rate: Decimal | None = None,
        contra: str | None = None,
        reverses: UUID | None = None,
        reference: str | None = None,
        sender_balance: Decimal | None = None,
    ) -> TransactionRow:
        """
        Move money and write it down: balances, one transaction, and entries that sum to zero in each currency.

        The caller has made sure that it may happen. `received` is in the receiver's currency, `amount` if not given;
        `contra` is the system wallet on the side that has no person's, if not that of the operation.
        """
        received = amount if received is None else received
        currency = (sender or receiver).currency  # type: ignore[union-attr]  # a movement has at least one wallet
        received_currency = (receiver or sender).currency  # type: ignore[union-attr]
        transaction = TransactionRow(
            id=id,
            operation_type=operation_type,
            amount=amount,
            amount_currency=currency,
            received_amount=received,
            received_currency=received_currency,
            exchange_rate=rate,
            sender_id=sender.id if sender else None,
            receiver_id=receiver.id if receiver else None,
            created_at=self._date(sender, receiver),
            reverses=reverses,
            reference=reference,
            sender_balance=sender_balance,
        )
        self.changes.transactions.append(transaction)
        if sender:
            self._move(transaction, sender, -amount)
        if sender is None or receiver is None:
            contra_id = SYSTEM_WALLET_IDS[contra or CONTRA[operation_type], currency]
            self._entry(id, contra_id, amount if sender else -amount)
        elif currency != received_currency:
            self._entry(id, SYSTEM_WALLET_IDS["exchange", currency], amount)
            self._entry(id, SYSTEM_WALLET_IDS["exchange", received_currency], -received)
        if receiver:
            self._move(transaction, receiver, received)
        return transaction

    def remember(self, key: IdempotencyKey, fingerprint: bytes, transaction: TransactionRow, balance: Decimal) -> None:
        """Write down that a key was used for `transaction`, for the next request that brings it."""
        row = KeyRow(
            id=key.id,
            user_id=key.user_id,
            key=key.key,
            fingerprint=fingerprint,
            transaction_id=transaction.id,
            balance_after=balance,
        )
        self.used_keys[row.id] = UsedKey(row, transaction)
        self.changes.keys.append(row)

    def mark(self, wallet_ids: Iterable[int]) -> Mark:
        """A place to come back to with `undo`, as long as only transfers between these wallets are made meanwhile."""
        return Mark(
            transactions=len(self.changes.transactions),
            entries=len(self.changes.entries),
            changed=len(self.changes.wallets),
            wallets=[(wallet, copy(wallet)) for wallet in map(self.wallets.__getitem__, wallet_ids)],
        )

    def undo(self, mark: Mark) -> None:
        """Be as if nothing had happened since `mark`."""
        del self.changes.transactions[mark.transactions :]
        del self.changes.entries[mark.entries :]
        while len(self.changes.wallets) > mark.changed:
            self.changes.wallets.popitem()  # the youngest: a wallet that had changed before keeps its place
        for wallet, before in mark.wallets:
            wallet.amount, wallet.is_active, wallet.fee_due_at = before.amount, before.is_active, before.fee_due_at
            wallet.last_entry_at = before.last_entry_at

    def changed(self, wallet: WalletRow) -> None:
        """Have this wallet's row saved with the batch."""
        self.changes.wallets[wallet.id] = wallet

    def _date(self, *wallets: WalletRow | None) -> datetime:
        """
        The time; that of a wallet's last entry where this is later, but no later than clocks may differ.

        So the entries of a wallet are dated in their order, though the clock has been ahead a little. Where it was far
        ahead it is believed now: else what happens in a year would all be dated alike.
        """
        date = self.now
        for wallet in wallets:
            if wallet and (last := wallet.last_entry_at) and date < last <= self._soon:
                date = last
        return date

    def _move(self, transaction: TransactionRow, wallet: WalletRow, amount: Decimal) -> None:
        wallet.amount += amount
        wallet.last_entry_at = transaction.created_at
        # A rule that lets this happen is wrong: better that its whole batch fails than that it is saved.
        if not 0 <= wallet.amount <= BALANCE_MAX:
            raise AssertionError(f"wallet {wallet.id} would leave its bounds")
        self.changed(wallet)
        self._entry(transaction.id, wallet.id, amount, wallet.amount)

    def _entry(self, transaction_id: UUID, wallet_id: int, amount: Decimal, balance: Decimal | None = None) -> None:
        self.changes.entries.append(
            EntryRow(transaction_id=transaction_id, wallet_id=wallet_id, amount=amount, balance_after=balance)
        )
