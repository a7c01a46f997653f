"""Wallets and banks for tests of the engine: straight in the database, no API around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from msgspec import Struct

from actors.bank import Bank, Limits
from actors.engine.locks import Lease, Locks
from actors.money import Rates
from actors.orders import (
    Adjust,
    Bulk,
    Deposit,
    Freeze,
    IdempotencyKey,
    Order,
    Payment,
    Receipt,
    Reverse,
    StaffMember,
    Transfer,
    Unfreeze,
    Withdraw,
    bulk_of,
    new_id,
)
from actors.refusals import Refusal
from db.tables import User, Wallet

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
"""A Redis that is gone."""

RATES = Rates(
    per_dollar={"USD": Decimal(1), "KZT": Decimal(520), "EUR": Decimal("0.86")},
    source="test",
    as_of=datetime.now(UTC),
    valid_until=datetime.now(UTC) + timedelta(days=1),
)

AYAN = StaffMember(7, "ayan")
STAFF_KEYS = UUID(int=7)

_numbers = count(1)


class Purse(Struct, frozen=True, kw_only=True):
    """A wallet and whose it is, and the orders that its owner can give."""

    id: int
    owner: UUID
    number: str

    def deposit(self, amount: str, key: str | None = None) -> Deposit:
        """Money from outside."""
        return Deposit(id=new_id(), caller_id=self.owner, wallet_id=self.id, amount=Decimal(amount), key=self._key(key))

    def withdraw(self, amount: str, key: str | None = None) -> Withdraw:
        """Money out."""
        return Withdraw(
            id=new_id(), caller_id=self.owner, wallet_id=self.id, amount=Decimal(amount), key=self._key(key)
        )

    def send(self, amount: str, to: "Purse", key: str | None = None) -> Transfer:
        """Money to another wallet."""
        return Transfer(
            id=new_id(),
            caller_id=self.owner,
            wallet_id=self.id,
            receiver_number=to.number,
            amount=Decimal(amount),
            key=self._key(key),
        )

    def send_all(self, wishes: Iterable[tuple[str, "Purse"]], key: str | None = None, *, atomic: bool = False) -> Bulk:
        """Money to many."""
        return bulk_of(
            [Payment(receiver_number=to.number, amount=Decimal(amount)) for amount, to in wishes],
            caller_id=self.owner,
            wallet_id=self.id,
            atomic=atomic,
            key=self._key(key),
        )

    def adjust(self, amount: str, key: str | None = None) -> Adjust:
        """A correction by staff: positive is a credit."""
        return Adjust(
            id=new_id(),
            staff=AYAN,
            wallet_id=self.id,
            amount=Decimal(amount),
            reason="counted wrong",
            key=IdempotencyKey(user_id=STAFF_KEYS, key=key) if key else None,
        )

    def freeze(self) -> Freeze:
        """By staff."""
        return Freeze(id=new_id(), staff=AYAN, wallet_id=self.id, reason="stolen phone")

    def unfreeze(self) -> Unfreeze:
        """By staff."""
        return Unfreeze(id=new_id(), staff=AYAN, wallet_id=self.id, reason="found again")

    async def look(self) -> dict[str, Any]:
        """The row as it is."""
        row: dict[str, Any] | None = await Wallet.select().where(Wallet.id == self.id).first()
        assert row is not None
        return row

    async def balance(self) -> str:
        """What the row says it holds."""
        return str((await self.look())["amount"])

    def _key(self, key: str | None) -> IdempotencyKey | None:
        return IdempotencyKey(user_id=self.owner, key=key) if key else None


async def purse(
    currency: str = "KZT", *, owner: UUID | None = None, fee_due_at: datetime | None = None, blocked: bool = False
) -> Purse:
    """An empty wallet, of a new person unless `owner` is given."""
    number = next(_numbers)
    if owner is None:
        owner = uuid4()
        await User.insert(
            User(id=owner, email=f"p{number}@example.com", phone_number=f"+7700{number:07}", password_hash="none")
        )
    (row,) = await Wallet.insert(
        Wallet(
            user=owner,
            wallet_number=f"{7_000_000_000 + number}",
            amount_currency=currency,
            is_active=not blocked,
            fee_due_at=fee_due_at or datetime.now(UTC) + timedelta(days=30),
        )
    )
    return Purse(id=row["id"], owner=owner, number=f"{7_000_000_000 + number}")


async def purses(number: int, *, holding: str, bank: Bank) -> list[Purse]:
    """So many wallets, each of a new person and with that much in it."""
    made = [await purse() for _ in range(number)]
    await asyncio.gather(*(bank.perform(each.deposit(holding)) for each in made))
    return made


def reversal(of: Receipt) -> Reverse:
    """What a receipt tells of, undone by staff."""
    assert of.transaction
    return Reverse(id=new_id(), staff=AYAN, transaction_id=of.transaction.id, reason="sent by mistake")


@asynccontextmanager
async def banks(
    number: int, redis_url: str, limits: Limits | None = None, lease: Lease | None = None
) -> AsyncIterator[list[Bank]]:
    """So many banks on one database and one Redis, each with locks of its own, as so many processes would have."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(number):
            locks = Locks(redis_url, lease or Lease())
            bank = Bank(limits or Limits(), locks, lambda: RATES)
            await stack.enter_async_context(bank.running())
            opened.append(bank)
        yield opened


@asynccontextmanager
async def stoppable(redis_url: str, limits: Limits) -> AsyncIterator[tuple[Bank, Callable[[], Awaitable[None]]]]:
    """A bank, and what stops it."""
    locks = Locks(redis_url, Lease())
    async with AsyncExitStack() as life:
        bank = Bank(limits, locks, lambda: RATES)
        await life.enter_async_context(bank.running())
        yield bank, life.aclose


async def answers(asked: Iterable[Awaitable[Receipt]]) -> list[Receipt | BaseException]:
    """What each of these came to; a minute without an answer fails the test."""
    async with asyncio.timeout(60):
        return await asyncio.gather(*asked, return_exceptions=True)


async def performed(bank: Bank, orders: Iterable[Order]) -> list[Receipt | BaseException]:
    """What each of these orders, given at once to one bank, came to."""
    return await answers([bank.perform(order) for order in orders])


def receipts(came_to: list[Receipt | BaseException]) -> list[Receipt]:
    """The receipts among the answers; whatever is neither a receipt nor a refusal fails the test."""
    for answer in came_to:
        if not isinstance(answer, Receipt | Refusal):
            raise answer
    return [answer for answer in came_to if isinstance(answer, Receipt)]


def codes(came_to: list[Receipt | BaseException]) -> set[str]:
    """The codes of the refusals among the answers."""
    return {answer.code for answer in came_to if isinstance(answer, Refusal)}


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own, beside the pool."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def assert_no_deadlock(database_url: str) -> None:
    """Nobody has ever waited in a circle in this database."""
    async with connected(database_url) as connection:
        seen = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert seen == 0


@asynccontextmanager
async def row_held(database_url: str, *wallets: Purse) -> AsyncIterator[None]:
    """Somebody else holds the rows of these wallets, so that a batch with one of them waits in its transaction."""
    async with connected(database_url) as connection, connection.transaction():
        await connection.execute(
            'SELECT 1 FROM "wallet" WHERE "id" = ANY($1::bigint[]) FOR UPDATE', [wallet.id for wallet in wallets]
        )
        yield


async def until(true: Callable[[], Awaitable[Any]]) -> None:
    """Wait for something that is about to happen; half a minute without it fails the test."""
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110 the condition is in another process
            await asyncio.sleep(0.005)


async def until_waiting(database_url: str, number: int = 1) -> None:
    """Until so many statements wait for a row that somebody else holds."""
    async with connected(database_url) as connection:

        async def waiting() -> bool:
            seen = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(seen >= number)

        await until(waiting)


@asynccontextmanager
async def connected_alone(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection when nobody else has one any more: PostgreSQL has counted by then what they did."""
    async with connected(database_url) as connection:

        async def alone() -> bool:
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return bool(await connection.fetchval(others) == 0)

        await until(alone)
        yield connection


async def poison_amount(database_url: str, error: str = "raise_exception") -> None:
    """From now on the database fails each statement that writes a transaction of 13.13, with this error."""
    async with connected(database_url) as connection:
        await connection.execute(
            f"""
            CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW."amount" = 13.13 THEN RAISE {error}; END IF; RETURN NEW; END $$;
            CREATE TRIGGER poison BEFORE INSERT ON "transaction" FOR EACH ROW EXECUTE FUNCTION poison()
            """
        )
