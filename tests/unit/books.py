"""Builders for tests of the rules: wallets, rates and orders with whatever a test does not care about filled in."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from actors.money import CENT, Rates
from actors.orders import Deposit, IdempotencyKey, Order, Transfer, Withdraw, new_id
from actors.refusals import Refusal
from actors.rules.apply import apply
from actors.rules.book import Book, UsedKey
from db.rows import WalletRow
from tests.helpers.prices import rates_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PERIOD = timedelta(days=30)
ALICE, BOB = UUID(int=0xA11CE), UUID(int=0xB0B)


def rates(kzt: str = "500", eur: str = "0.8", *, valid_until: datetime = NOON + 3650 * timedelta(days=1)) -> Rates:
    """What a dollar costs in tenge and in euros."""
    return rates_at(as_of=NOON, valid_until=valid_until, KZT=kzt, EUR=eur)


def wallet(
    id: int,
    amount: str | Decimal = "0.00",
    *,
    owner: UUID = ALICE,
    currency: str = "KZT",
    blocked: bool = False,
    due: datetime = NOON + PERIOD,
) -> WalletRow:
    """A wallet whose number is its id in ten digits."""
    return WalletRow(
        id=id,
        user_id=owner,
        number=f"{id:010}",
        currency=currency,
        amount=Decimal(amount).quantize(CENT),
        is_active=not blocked,
        fee_due_at=due,
    )


def book(
    *wallets: WalletRow, used_keys: Iterable[UsedKey] = (), rates: Rates | None = None, now: datetime = NOON
) -> Book:
    """A book of these wallets; without rates unless they are given."""
    return Book(wallets=wallets, used_keys=used_keys, rates=rates, now=now)


def deposit(to: WalletRow, amount: str | Decimal, *, caller: UUID | None = None, key: str | None = None) -> Deposit:
    """A deposit by the wallet's owner, or by `caller`."""
    by = caller or _owner(to)
    return Deposit(id=new_id(), caller_id=by, wallet_id=to.id, amount=Decimal(amount), key=_key(by, key))


def withdraw(of: WalletRow, amount: str | Decimal, *, caller: UUID | None = None, key: str | None = None) -> Withdraw:
    """A withdrawal by the wallet's owner, or by `caller`."""
    by = caller or _owner(of)
    return Withdraw(id=new_id(), caller_id=by, wallet_id=of.id, amount=Decimal(amount), key=_key(by, key))


def transfer(
    sender: WalletRow, to: WalletRow, amount: str | Decimal, *, caller: UUID | None = None, key: str | None = None
) -> Transfer:
    """A transfer by the sender's owner, or by `caller`."""
    by = caller or _owner(sender)
    return Transfer(
        id=new_id(),
        caller_id=by,
        wallet_id=sender.id,
        receiver_number=to.number,
        amount=Decimal(amount),
        key=_key(by, key),
    )


def outcome(order: Order, of: Book) -> str:
    """`done`, `replayed`, `nothing`, `blocked`, or the code of the refusal."""
    try:
        receipt = apply(order, of)
    except Refusal as refusal:
        return refusal.code
    if receipt.blocked:
        return "blocked"
    if receipt.transaction is None:
        return "nothing"
    return "replayed" if receipt.replayed else "done"


def _owner(of: WalletRow) -> UUID:
    assert of.user_id
    return of.user_id


def _key(caller: UUID, key: str | None) -> IdempotencyKey | None:
    return IdempotencyKey(user_id=caller, key=key) if key else None
