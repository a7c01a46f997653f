"""
Any sequence of orders, hours and rates, held against a naive bank that was written independently.

Several users' wallets in three currencies live through books: what a book has changed is saved, and the next one is
opened from what was saved, so a change that a book forgets to name is found too.
"""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.money import BALANCE_MAX, Rates
from actors.orders import (
    ChargeFee,
    Deposit,
    Freeze,
    IdempotencyKey,
    Order,
    Receipt,
    Reverse,
    Transfer,
    Unfreeze,
    Withdraw,
    new_id,
)
from actors.refusals import Refusal
from actors.rules.apply import apply
from actors.rules.book import Book, UsedKey
from db.currencies import CURRENCIES, SYSTEM_WALLET_IDS
from db.rows import EntryRow, OriginalRow, StaffActionRow, TransactionRow, WalletRow
from tests.helpers.prices import rates_at
from tests.unit.books import ALICE, BOB, NOON, PERIOD, wallet
from tests.unit.naive import CENTS_MAX, Account, Movement, NaiveBank, Verdict, Wish

CAROL = UUID(int=0xCA201)
OWNERS = {
    1001: (ALICE, "KZT"),
    1002: (ALICE, "EUR"),
    1003: (ALICE, "USD"),
    1004: (BOB, "KZT"),
    1005: (BOB, "EUR"),
    1006: (CAROL, "USD"),
    1007: (CAROL, "KZT"),
}
STRANGER_WALLET = 4711

wallets = st.sampled_from([*OWNERS] * 3 + [STRANGER_WALLET])
own_wallets = st.sampled_from([*OWNERS])
# Around a fee in each currency, and around the limit.
amounts = st.one_of(
    st.integers(1, 60),
    st.integers(1, 500_00),
    st.sampled_from([1, 2, 199_99, 200_00, 200_01, CENTS_MAX, CENTS_MAX - 1, CENTS_MAX // 2]),
)
# Of what a wallet holds: a part, all, a cent more.
parts = st.sampled_from([Fraction(1), Fraction(1), Fraction(1, 2), Fraction(1, 10), Fraction(1, 1000)])
keys = st.sampled_from([None, None, "a", "b", "c"])
tenge = st.sampled_from(["500", "490.37", "1", "123456.789", "0.002", "50000000"])
euros = st.sampled_from(["0.8", "0.9213", "1.7"])
hours = st.one_of(st.sampled_from([24 * 30, 24 * 30 - 1, 24 * 61]), st.integers(1, 24 * 100))


def money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def cents(amount: Decimal) -> int:
    return int(amount.scaleb(2))


class Books(RuleBasedStateMachine):
    """The rules and the naive bank, asked the same."""

    @initialize(
        holdings=st.lists(
            st.sampled_from([0, 1, 400_00, 10_000_00, 10**13]), min_size=len(OWNERS), max_size=len(OWNERS)
        ),
        kzt=tenge,
        eur=euros,
    )
    def open(self, holdings: list[int], kzt: str, eur: str) -> None:
        self.now: datetime = NOON
        self.rates: Rates | None = None
        self.saved = {
            id: wallet(id, owner=owner, currency=currency, due=NOON + PERIOD)
            for id, (owner, currency) in OWNERS.items()
        }
        self.used_keys: list[UsedKey] = []
        self.entries: list[EntryRow] = []
        self.transactions: list[TransactionRow] = []
        self.staff_actions: list[StaffActionRow] = []
        self.asked: list[Wish] = []
        self.naive = NaiveBank(
            {id: Account(id, owner, currency, NOON + PERIOD) for id, (owner, currency) in OWNERS.items()}, NOON
        )
        self.book = self._open_book()
        self.rates_change(kzt, eur, 5000)
        for id, holding in zip(OWNERS, holdings, strict=True):
            if holding:
                self.deposit(id, holding, None)

    @rule(id=own_wallets, amount=amounts, key=keys)
    def deposit(self, id: int, amount: int, key: str | None) -> None:
        self._ask(Wish("DEPOSIT", OWNERS[id][0], id, amount, key=key))

    @rule(id=own_wallets, part=parts, extra=st.integers(-1, 1), key=keys)
    def withdraw(self, id: int, part: Fraction, extra: int, key: str | None) -> None:
        self._ask(Wish("WITHDRAW", OWNERS[id][0], id, self._of(id, part, extra), key=key))

    @rule(id=own_wallets, to=wallets, part=parts, extra=st.integers(-1, 1), key=keys)
    def transfer(self, id: int, to: int, part: Fraction, extra: int, key: str | None) -> None:
        self._ask(Wish("TRANSFER", OWNERS[id][0], id, self._of(id, part, extra), f"{to:010}", key))

    @rule(id=own_wallets, to=wallets, amount=amounts, key=keys)
    def transfer_an_amount(self, id: int, to: int, amount: int, key: str | None) -> None:
        self._ask(Wish("TRANSFER", OWNERS[id][0], id, amount, f"{to:010}", key))

    @rule(to=own_wallets, extra=st.integers(-1, 1), sender=st.sampled_from([None, *OWNERS]))
    def receive_what_a_fee_needs(self, to: int, extra: int, sender: int | None) -> None:
        """Give or take a cent; from outside, or from another wallet of the same currency."""
        account = self.naive.accounts[to]
        missing = min(max((self.naive.fee(account) or 200_00) - account.cents + extra, 1), CENTS_MAX)
        if sender and sender != to and OWNERS[sender][1] == account.currency:
            self._ask(Wish("TRANSFER", OWNERS[sender][0], sender, missing, f"{to:010}"))
        else:
            self._ask(Wish("DEPOSIT", account.owner, to, missing))

    @rule(id=own_wallets, room=st.integers(0, 300_00))
    def fill(self, id: int, room: int) -> None:
        """A wallet that has room for so much only."""
        missing = CENTS_MAX - self.naive.accounts[id].cents - room
        if missing > 0:
            self._ask(Wish("DEPOSIT", OWNERS[id][0], id, missing))

    @rule(id=wallets, other=own_wallets, kind=st.sampled_from(["DEPOSIT", "WITHDRAW", "TRANSFER"]))
    def somebody_elses(self, id: int, other: int, kind: str) -> None:
        number = f"{other:010}" if kind == "TRANSFER" else ""
        verdict = self._ask(Wish(kind, UUID(int=0xBAD), id, 1, number))
        assert verdict.reason == "wallet_not_found"

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0), change=st.sampled_from(["", "", "", "amount", "wallet", "kind"]), id=own_wallets)
    def repeat(self, which: int, change: str, id: int) -> None:
        """The same request again, with a new id; or another request under its key."""
        wish = self.asked[which % len(self.asked)]
        if change == "amount":
            wish = Wish(wish.kind, wish.caller, wish.wallet, wish.cents % 1000 + 1, wish.number, wish.key)
        elif change == "wallet" and OWNERS[id][0] == wish.caller:
            wish = Wish(wish.kind, wish.caller, id, wish.cents, wish.number, wish.key)
        elif change == "kind" and wish.kind != "TRANSFER":
            kind = "WITHDRAW" if wish.kind == "DEPOSIT" else "DEPOSIT"
            wish = Wish(kind, wish.caller, wish.wallet, wish.cents, wish.number, wish.key)
        self._ask(wish)

    @rule(id=wallets, periods=st.sampled_from([0, 0, 0, 0, -1, 1]))
    def charge(self, id: int, periods: int) -> None:
        due = self.naive.accounts[id].due if id in OWNERS else NOON
        self._charge(id, due + periods * PERIOD)

    @rule()
    def charge_everybody(self) -> None:
        """As a fee run does: each period by itself, until nobody owes anything that can be had."""
        for id, account in self.naive.accounts.items():
            while account.due <= self.now and not account.blocked:
                due = account.due
                if self._charge(id, due).reason:
                    break

    @rule(id=own_wallets, left=st.integers(0, 30), late=st.sampled_from([0, 0, 1, 3]))
    def be_found_too_poor(self, id: int, left: int, late: int) -> None:
        """A wallet is all but emptied before its fee is asked for."""
        account = self.naive.accounts[id]
        if not account.blocked and account.cents > left:
            self._ask(Wish("WITHDRAW", account.owner, id, account.cents - left))
        self.a_fee_is_due(id, late)
        self._charge(id, account.due)

    @rule(id=own_wallets, periods=st.sampled_from([0, 0, 1, 2, 5]))
    def a_fee_is_due(self, id: int, periods: int) -> None:
        """To the very moment."""
        ahead = self.naive.accounts[id].due + periods * PERIOD - self.now
        if ahead > timedelta(0):
            self.time_passes(ahead / timedelta(hours=1))

    @rule(hours=hours)
    def time_passes(self, hours: float) -> None:
        self._save()
        self.now += timedelta(hours=hours)
        self.naive.now = self.now
        self.book = self._open_book()

    @rule(kzt=tenge, eur=euros, days=st.sampled_from([-1, 50, 5000, 5000, 5000]))
    def rates_change(self, kzt: str, eur: str, days: int) -> None:
        self._save()
        until = self.now + timedelta(days=days, minutes=30)
        self.rates = rates_at(as_of=self.now, valid_until=until, KZT=kzt, EUR=eur)
        self.naive.prices = {currency: Fraction(price) for currency, price in self.rates.per_dollar.items()}
        self.naive.prices_until = until
        self.book = self._open_book()

    @rule()
    def rates_are_lost(self) -> None:
        self._save()
        self.rates = self.naive.prices = None
        self.book = self._open_book()

    @invariant()
    def the_wallets_are_those_of_the_naive_bank(self) -> None:
        for id, account in self.naive.accounts.items():
            row = self.book.wallets[id]
            assert (cents(row.amount), not row.is_active, row.fee_due_at, row.frozen_at is not None) == (
                account.cents,
                account.blocked,
                account.due,
                account.frozen,
            )
            assert 0 <= row.amount <= BALANCE_MAX
            assert row is self.book.numbers[row.number]
            assert row.fee_due_at
            assert (row.fee_due_at - NOON) % PERIOD == timedelta(0), "the day of the fee is kept"

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        currency_of = {id: currency for (_, currency), id in SYSTEM_WALLET_IDS.items()}
        currency_of |= {id: currency for id, (_, currency) in OWNERS.items()}
        entries = self.entries + self.book.changes.entries
        legs: Counter[tuple[UUID, str]] = Counter()
        sums: Counter[int] = Counter()
        last: dict[int, Decimal | None] = {}
        for entry in entries:
            legs[entry.transaction_id, currency_of[entry.wallet_id]] += cents(entry.amount)
            sums[entry.wallet_id] += cents(entry.amount)
            last[entry.wallet_id] = entry.balance_after
            if entry.wallet_id in OWNERS:
                assert entry.balance_after == money(sums[entry.wallet_id])
        assert not any(legs.values())
        for currency in CURRENCIES:
            assert sum(sums[id] for id in currency_of if currency_of[id] == currency) == 0
        for id in OWNERS:
            row = self.book.wallets[id]
            assert cents(row.amount) == sums[id]
            assert row.amount == last.get(id, Decimal("0.00"))

    @invariant()
    def history_is_that_of_the_naive_bank(self) -> None:
        transactions = self.transactions + self.book.changes.transactions
        assert [movement(transaction) for transaction in transactions] == self.naive.history
        assert len({transaction.id for transaction in transactions}) == len(transactions)
        assert len(set(self.naive.paid)) == len(self.naive.paid), "no period is paid twice"

    def teardown(self) -> None:
        if hasattr(self, "book"):
            self._save()

    def _open_book(self) -> Book:
        undone = {transaction.reverses for transaction in self.transactions}
        adjusted = {action.transaction_id for action in self.staff_actions if action.action == "ADJUST"}
        return Book(
            wallets=deepcopy(self.saved).values(),
            used_keys=self.used_keys,
            rates=self.rates,
            now=self.now,
            originals=[
                OriginalRow(transaction=each, adjusted=each.id in adjusted, reversed=each.id in undone)
                for each in self.transactions
            ],
        )

    def _save(self) -> None:
        """What a ledger would do with the book's changes; what they leave out is lost."""
        changes = self.book.changes
        self.saved.update(deepcopy(changes.wallets))
        self.staff_actions += changes.staff_actions
        self.entries += changes.entries
        self.transactions += changes.transactions
        by_id = {transaction.id: transaction for transaction in self.transactions}
        self.used_keys += [UsedKey(row, by_id[row.transaction_id]) for row in changes.keys]
        assert self.saved == self.book.wallets

    def _of(self, id: int, part: Fraction, extra: int) -> int:
        return min(max(1, int(self.naive.accounts[id].cents * part) + extra), CENTS_MAX)

    def _ask(self, wish: Wish) -> Verdict:
        if wish.key:
            self.asked.append(wish)
        incoming = self._receiver(wish)
        was_blocked = incoming is not None and not incoming.is_active
        before = len(self.book.changes.transactions)
        verdict = self._compare(order_for(wish), lambda: self.naive.ask(wish))
        made = self.book.changes.transactions[before:]
        if verdict.movement and not verdict.replayed:
            fees = [transaction for transaction in made if transaction.operation_type == "FEE"]
            assert len(made) == 1 + len(fees), "one movement, and at most a fee"
            if incoming and was_blocked:
                assert len(fees) == incoming.is_active, "the money that unblocks pays exactly one fee"
            else:
                assert not fees
        else:
            assert not made
        return verdict

    def _charge(self, id: int, due: datetime) -> Verdict:
        return self._compare(ChargeFee(wallet_id=id, due_at=due), lambda: self.naive.charge(id, due))

    def _compare(self, order: Order, ask_naive: Callable[[], Verdict]) -> Verdict:
        """Ask both, and hold what they say, and what they leave behind, against each other."""
        sender = None if isinstance(order, Reverse) else self.book.wallets.get(order.wallet_id)
        was_blocked = sender is not None and not sender.is_active
        before = self._everything()
        verdict = ask_naive()
        told = answer(order, self.book)
        if isinstance(told, Refusal):
            assert told.code == verdict.reason
            assert self._everything() == before, "a refusal leaves the book as it was"
            return verdict
        assert not verdict.reason
        assert said(told) == verdict
        if verdict.replayed or told.unchanged or not (verdict.movement or verdict.blocked or is_a_freeze(order)):
            assert self._everything() == before, "an answer given again moves nothing"
        elif isinstance(order, Withdraw | Transfer):
            assert not was_blocked, "a blocked wallet sends nothing"
        return verdict

    def _receiver(self, wish: Wish) -> WalletRow | None:
        if wish.kind == "DEPOSIT":
            return self.book.wallets.get(wish.wallet)
        return self.book.numbers.get(wish.number)

    def _everything(self) -> Any:
        book, changes = self.book, self.book.changes
        # Whatever is not a wallet is frozen, so copies of what holds it are enough.
        lists = [list(getattr(changes, name)) for name in ("transactions", "entries", "keys", "messages")]
        lists += [
            list(changes.staff_actions),
            [each.transaction.id for each in book.originals.values() if each.reversed],
        ]
        return deepcopy(book.wallets), list(book.numbers), dict(book.used_keys), list(changes.wallets), lists


def answer(order: Order, book: Book) -> Receipt | Refusal:
    """What the rules say to it."""
    try:
        return apply(order, book)
    except Refusal as refusal:
        return refusal


def is_a_freeze(order: Order) -> bool:
    """Or the end of one: it changes a wallet, but moves nothing."""
    return isinstance(order, Freeze | Unfreeze)


def order_for(wish: Wish) -> Order:
    """The order that a controller would make of it."""
    key = IdempotencyKey(user_id=wish.caller, key=wish.key) if wish.key else None
    if wish.kind == "TRANSFER":
        return Transfer(
            id=new_id(),
            caller_id=wish.caller,
            wallet_id=wish.wallet,
            receiver_number=wish.number,
            amount=money(wish.cents),
            key=key,
        )
    kind = Deposit if wish.kind == "DEPOSIT" else Withdraw
    return kind(id=new_id(), caller_id=wish.caller, wallet_id=wish.wallet, amount=money(wish.cents), key=key)


def movement(transaction: TransactionRow) -> Movement:
    """A transaction in the naive bank's words."""
    return Movement(
        transaction.operation_type,
        transaction.sender_id,
        transaction.receiver_id,
        cents(transaction.amount),
        cents(transaction.received_amount),
    )


def said(receipt: Receipt) -> Verdict:
    """A receipt in the naive bank's words."""
    return Verdict(
        movement=movement(receipt.transaction) if receipt.transaction else None,
        balance_cents=cents(receipt.balance_after),
        replayed=receipt.replayed,
        blocked=receipt.blocked,
    )
