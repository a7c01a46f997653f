"""
The rules once more, slowly: whole cents, exact fractions, one account after another.

Written from the contract and not from `actors/`, to be held against it. Where several refusals are true at once the
contract does not say which one is told, so a verdict names them all.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from uuid import UUID

CENTS_MAX = 999_999_999_999_99
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
    """What has to happen: one of `reasons` is told, or else `movement` is made, or nothing is (both empty)."""

    reasons: frozenset[str] = frozenset()
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
                return Verdict(frozenset({"idempotency_key_reused"}))
            return Verdict(movement=verdict.movement, balance_cents=verdict.balance_cents, replayed=True)
        verdict = self._ask(wish)
        if slot and not verdict.reasons:
            self.remembered[slot] = (wish, verdict)
        return verdict

    def charge(self, wallet: int, due: datetime) -> Verdict:
        """The fee for the period that ended at `due`."""
        account = self.accounts.get(wallet)
        if account is None:
            return Verdict(frozenset({"wallet_not_found"}))
        if due > self.now or due != account.due:
            return Verdict(balance_cents=account.cents)
        if account.frozen:
            return Verdict(frozenset({"wallet_frozen"}))
        fee = self.fee(account)
        if fee is None:
            return Verdict(frozenset({"rates_unavailable"}))
        if account.cents >= fee:
            return Verdict(movement=self._pay(account, fee), balance_cents=account.cents)
        account.blocked = True
        return Verdict(balance_cents=account.cents, blocked=True)

    def adjust(self, wallet: int, cents: int) -> Verdict:
        """So much more or less, by staff: even where the wallet is blocked or frozen."""
        account = self.accounts.get(wallet)
        if account is None:
            return Verdict(frozenset({"wallet_not_found"}))
        if account.cents + cents > CENTS_MAX:
            return Verdict(frozenset({"balance_limit"}))
        if account.cents + cents < 0:
            return Verdict(frozenset({"insufficient_funds"}))
        if cents > 0:
            return self._book(Movement("DEPOSIT", None, wallet, cents, cents), acting=wallet)
        return self._book(Movement("WITHDRAW", wallet, None, -cents, -cents), acting=wallet)

    def reverse(self, place: int) -> Verdict:
        """The same money back, by staff: once, and as long as it is there."""
        first = self.history[place]
        if place in self.undone or place in self.undoing:
            return Verdict(frozenset({"not_reversible"}))
        payer, payee = (self.accounts[id] if id else None for id in (first.receiver, first.sender))
        reasons = set()
        if payer and payer.cents < first.received_cents:
            reasons.add("insufficient_funds")
        if payee and payee.cents + first.sent_cents > CENTS_MAX:
            reasons.add("balance_limit")
        if reasons:
            return Verdict(frozenset(reasons))
        self.undone.add(place)
        self.undoing.add(len(self.history))
        kind = "TRANSFER" if payer and payee else "DEPOSIT" if payee else "WITHDRAW"
        back = Movement(kind, first.receiver, first.sender, first.received_cents, first.sent_cents)
        return self._book(back, acting=first.receiver or first.sender)

    def freeze(self, wallet: int, frozen: bool) -> Verdict:
        """Nothing in or out, or the end of that."""
        account = self.accounts.get(wallet)
        if account is None:
            return Verdict(frozenset({"wallet_not_found"}))
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
            return Verdict(frozenset({"wallet_not_found"}))
        sender = account if wish.kind != "DEPOSIT" else None
        receiver = account if wish.kind == "DEPOSIT" else None
        if wish.kind == "TRANSFER":
            receiver = next((other for other in self.accounts.values() if f"{other.id:010}" == wish.number), None)
            if receiver is None:
                return Verdict(frozenset({"wallet_not_found"}))
        reasons, arriving = self._reasons(wish, sender, receiver)
        if reasons:
            return Verdict(frozenset(reasons))
        return self._move(wish, sender, receiver, arriving)

    def _reasons(self, wish: Wish, sender: Account | None, receiver: Account | None) -> tuple[set[str], int]:
        reasons = set()
        if (sender and sender.frozen) or (receiver and receiver.frozen):
            reasons.add("wallet_frozen")
        if sender and sender is receiver:
            reasons.add("same_wallet")
        if sender and sender.blocked:
            reasons.add("wallet_blocked")
        if sender and sender.cents < wish.cents:
            reasons.add("insufficient_funds")
        currencies = [side.currency for side in (sender, receiver) if side]
        arriving = self.worth(wish.cents, currencies[0], currencies[-1])
        if arriving is None:
            reasons.add("rates_unavailable")
        elif arriving == 0:
            reasons.add("amount_too_small")
        elif receiver and receiver.cents + arriving > CENTS_MAX:
            reasons.add("balance_limit")
        return reasons, arriving or 0

    def _move(self, wish: Wish, sender: Account | None, receiver: Account | None, arriving: int) -> Verdict:
        movement = Movement(
            wish.kind, sender.id if sender else None, receiver.id if receiver else None, wish.cents, arriving
        )
        return self._book(movement, acting=wish.wallet)

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
