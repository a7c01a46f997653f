"""
The rules once more, slowly: whole cents, exact fractions, one account after another.

Written from the contract and not from `actors/`, to be held against it. Where several refusals are true at once, the
contract says which one is told.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from uuid import UUID

CENTS_MAX = 999_999_999_999_99  # of one payment, and of what deposits and adjustments bring a balance to
FEE_TENGE_CENTS = 200_00
MONTH = timedelta(days=30)


@dataclass
class Account:
    """One wallet."""

    id: int
    owner: UUID
    currency: str
    due: datetime
    cents: int = 0
    blocked: bool = False
    frozen: bool = False


@dataclass(frozen=True)
class Movement:
    """What history tells of a movement: None is the outside world."""

    kind: str
    sender: int | None
    receiver: int | None
    sent_cents: int
    received_cents: int


@dataclass(frozen=True)
class Verdict:
    """What has to happen: `reason` is told, or else `movement` is made, or nothing is (both empty)."""

    reason: str = ""
    movement: Movement | None = None
    balance_cents: int = 0
    replayed: bool = False
    blocked: bool = False


@dataclass(frozen=True)
class Wish:
    """What somebody asks for; `number` is the receiver's id as people write it."""

    kind: str
    caller: UUID
    wallet: int
    cents: int
    number: str = ""
    key: str | None = None


@dataclass
class NaiveBank:
    """Every account there is, the time, and what a dollar costs."""

    accounts: dict[int, Account]
    now: datetime
    prices: dict[str, Fraction] | None = None
    prices_until: datetime | None = None
    history: list[Movement] = field(default_factory=list)
    paid: list[tuple[int, datetime]] = field(default_factory=list)
    remembered: dict[tuple[UUID, str], tuple[Wish, Verdict]] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)  # places in the history
    undoing: set[int] = field(default_factory=set)

    def ask(self, wish: Wish) -> Verdict:
        """A deposit, withdrawal or transfer."""
        slot = (wish.caller, wish.key) if wish.key else None
        if slot in self.remembered:
            first, verdict = self.remembered[slot]
            if first != wish:
                return Verdict("idempotency_key_reused")
            return Verdict(movement=verdict.movement, balance_cents=verdict.balance_cents, replayed=True)
        verdict = self._ask(wish)
        if slot and not verdict.reason:
            self.remembered[slot] = (wish, verdict)
        return verdict

    def charge(self, wallet: int, due: datetime) -> Verdict:
        """The fee for the period that ended at `due`."""
        account = self.accounts.get(wallet)
        if account is None:
            return Verdict("wallet_not_found")
        if due > self.now or due != account.due:
            return Verdict(balance_cents=account.cents)
        if account.frozen:
            return Verdict("wallet_frozen")
        fee = self.fee(account)
        if fee is None:
            return Verdict("rates_unavailable")
        if account.cents >= fee:
            return Verdict(movement=self._pay(account, fee), balance_cents=account.cents)
        account.blocked = True
        return Verdict(balance_cents=account.cents, blocked=True)

    def adjust(self, wallet: int, cents: int) -> Verdict:
        """So much more or less, by staff: even where the wallet is blocked or frozen."""
        account = self.accounts.get(wallet)
        if account is None:
            return Verdict("wallet_not_found")
        if cents > 0 and account.cents + cents > CENTS_MAX:
            return Verdict("balance_limit")
        if account.cents + cents < 0:
            return Verdict("insufficient_funds")
        if cents > 0:
            return self._book(Movement("DEPOSIT", None, wallet, cents, cents), acting=wallet)
        return self._book(Movement("WITHDRAW", wallet, None, -cents, -cents), acting=wallet)

    def reverse(self, place: int) -> Verdict:
        """The same money back, by staff: once, and as long as it is there."""
        first = self.history[place]
        if place in self.undone or place in self.undoing:
            return Verdict("not_reversible")
        payer, payee = (self.accounts[id] if id else None for id in (first.receiver, first.sender))
        if payer and payer.cents < first.received_cents:
            return Verdict("insufficient_funds")
        self.undone.add(place)
        self.undoing.add(len(self.history))
        kind = "TRANSFER" if payer and payee else "DEPOSIT" if payee else "WITHDRAW"
        back = Movement(kind, first.receiver, first.sender, first.received_cents, first.sent_cents)
        return self._book(back, acting=first.receiver or first.sender)

    def freeze(self, wallet: int, frozen: bool) -> Verdict:
        """Nothing in or out, or the end of that."""
        account = self.accounts.get(wallet)
        if account is None:
            return Verdict("wallet_not_found")
        if account.frozen != frozen:
            account.frozen = frozen
            self._unblock(account)
        return Verdict(balance_cents=account.cents)

    def fee(self, account: Account) -> int | None:
        """200 tenge in the account's currency, never nothing; None while nobody knows the rate."""
        cents = self.worth(FEE_TENGE_CENTS, "KZT", account.currency)
        return None if cents is None else max(cents, 1)

    def worth(self, cents: int, base: str, quote: str) -> int | None:
        """So many cents in another currency, at a rate of twelve decimals, always in the house's favour."""
        if base == quote:
            return cents
        if self.prices is None or self.prices_until is None or self.now > self.prices_until:
            return None
        rate = Fraction(floor(self.prices[quote] / self.prices[base] * 10**12), 10**12)
        return floor(cents * rate)

    def _ask(self, wish: Wish) -> Verdict:
        account = self.accounts.get(wish.wallet)
        if account is None or account.owner != wish.caller:
            return Verdict("wallet_not_found")
        if wish.kind == "TRANSFER" and f"{account.id:010}" == wish.number:
            return Verdict("same_wallet")
        if account.frozen:
            return Verdict("wallet_frozen")
        if wish.kind == "DEPOSIT":
            if account.cents + wish.cents > CENTS_MAX:
                return Verdict("balance_limit")
            return self._book(Movement("DEPOSIT", None, account.id, wish.cents, wish.cents), acting=account.id)
        if account.blocked:
            return Verdict("wallet_blocked")
        if account.cents < wish.cents:
            return Verdict("insufficient_funds")
        if wish.kind == "WITHDRAW":
            return self._book(Movement("WITHDRAW", account.id, None, wish.cents, wish.cents), acting=account.id)
        return self._send(wish, account)

    def _send(self, wish: Wish, sender: Account) -> Verdict:
        """What only the receiver can be to blame for, now that the sender could pay."""
        receiver = next((other for other in self.accounts.values() if f"{other.id:010}" == wish.number), None)
        if receiver is None:
            return Verdict("wallet_not_found")
        if receiver.frozen:
            return Verdict("receiver_unavailable")
        arriving = self.worth(wish.cents, sender.currency, receiver.currency)
        if arriving is None:
            return Verdict("rates_unavailable")
        if arriving == 0:
            return Verdict("amount_too_small")
        if arriving > CENTS_MAX:
            return Verdict("amount_too_large")
        return self._book(Movement("TRANSFER", sender.id, receiver.id, wish.cents, arriving), acting=sender.id)

    def _book(self, movement: Movement, *, acting: int | None) -> Verdict:
        if movement.sender:
            self.accounts[movement.sender].cents -= movement.sent_cents
        if movement.receiver:
            self.accounts[movement.receiver].cents += movement.received_cents
        self.history.append(movement)
        assert acting
        verdict = Verdict(movement=movement, balance_cents=self.accounts[acting].cents)
        if movement.receiver:
            self._unblock(self.accounts[movement.receiver])
        return verdict

    def _unblock(self, account: Account) -> None:
        if account.blocked and not account.frozen:
            fee = self.fee(account)
            if fee is not None and account.cents >= fee:
                self._pay(account, fee)

    def _pay(self, account: Account, fee: int) -> Movement:
        account.cents -= fee
        self.paid.append((account.id, account.due))
        account.due += MONTH
        while account.blocked and account.due <= self.now:
            account.due += MONTH
        account.blocked = False
        movement = Movement("FEE", account.id, None, fee, fee)
        self.history.append(movement)
        return movement
