"""The hot path's SQL, and what the database itself refuses."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg.exceptions import (
    CheckViolationError,
    IntegrityConstraintViolationError,
    LockNotAvailableError,
    RestrictViolationError,
    UniqueViolationError,
)
from msgspec.structs import asdict
from piccolo.engine.exceptions import TransactionError

from actors.orders import Deposit, Transfer, Withdraw, fee_id, new_id
from actors.rules.apply import apply
from actors.rules.book import DEPOSIT, Book
from app.staff.money_forms import wallet_id_of
from db import ledger
from db.currencies import CURRENCIES, SYSTEM_WALLET_IDS
from db.engine import engine
from db.rows import Changes, EntryRow, KeyRow, MessageRow, TransactionRow, WalletRow
from db.tables import Entry, Message, Transaction, Wallet
from db.transaction import NothingToKeep, transaction
from tests.helpers.banks import banks
from tests.helpers.postgres import connected, row_held, until_waiting
from tests.helpers.purses import Purse, purse, purses

NOW = datetime.now(UTC)


def movement(id: UUID, to: Purse, amount: str) -> TransactionRow:
    """A deposit."""
    return TransactionRow(
        id=id,
        operation_type=DEPOSIT,
        amount=Decimal(amount),
        amount_currency="KZT",
        received_amount=Decimal(amount),
        received_currency="KZT",
        exchange_rate=None,
        sender_id=None,
        receiver_id=to.id,
        created_at=NOW,
    )


def legs(id: UUID, to: Purse, amount: str, balance: str) -> list[EntryRow]:
    """Those of a deposit."""
    cash = SYSTEM_WALLET_IDS["cash", "KZT"]
    return [
        EntryRow(transaction_id=id, wallet_id=cash, amount=-Decimal(amount), balance_after=None),
        EntryRow(transaction_id=id, wallet_id=to.id, amount=Decimal(amount), balance_after=Decimal(balance)),
    ]


def key_row(id: UUID, of: Purse, for_transaction: UUID) -> KeyRow:
    return KeyRow(
        id=id,
        user_id=of.owner,
        key="k",
        fingerprint=b"\x00\xff",
        transaction_id=for_transaction,
        balance_after=Decimal("1.00"),
    )


def posted(row: WalletRow, made: TransactionRow, entries: list[EntryRow], *keys: KeyRow) -> Changes:
    """One wallet's movement, ready to be saved."""
    return Changes(wallets={row.id: row}, transactions=[made], entries=entries, keys=list(keys))


async def load(*wallets: Purse) -> dict[int, WalletRow]:
    loaded = await ledger.load([wallet.id for wallet in wallets], [], [])
    return {row.id: row for row in loaded.wallets}


async def test_what_a_book_has_changed_is_what_is_there_afterwards(database: str) -> None:
    alice, bob = await purse(), await purse()
    async with transaction():
        book = Book(wallets=(await load(alice, bob)).values(), used_keys=[], rates=None, now=NOW)
        for order in (alice.deposit("10.00", "k"), alice.send("2.50", bob), bob.withdraw("1.00")):
            apply(order, book)
        changes = book.changes
        await ledger.save(changes)
    async with transaction():
        (key,) = changes.keys
        loaded = await ledger.load([alice.id, 4711], [bob.number, "4711"], [key.id, uuid4()])
        assert {row.id: row for row in loaded.wallets} == book.wallets
        assert (loaded.keys, loaded.held) == ([key], {})
        ids = [made.id for made in changes.transactions]
        assert await ledger.transactions([*ids, uuid4()]) == {made.id: made for made in changes.transactions}
    entries = await Entry.select().order_by(Entry.id)
    assert [
        EntryRow(
            transaction_id=row["transaction"],
            wallet_id=row["wallet"],
            amount=row["amount"],
            balance_after=row["balance_after"],
        )
        for row in entries
    ] == changes.entries, "in the order in which it happened"


async def test_every_field_of_a_transaction_is_kept_and_read_again(database: str) -> None:
    """A field that was forgotten on either way would be in a receipt, and missing in the history and in a replay."""
    whole = TransactionRow(
        id=new_id(),
        operation_type="TRANSFER",
        amount=Decimal("1.00"),
        amount_currency="KZT",
        received_amount=Decimal("2.00"),
        received_currency="EUR",
        exchange_rate=Decimal("0.500000000000"),
        sender_id=1001,
        receiver_id=1002,
        created_at=NOW,
        reverses=new_id(),
        reference="Rent",
        sender_balance=Decimal("3.00"),
    )
    assert None not in asdict(whole).values(), "give the new field a value here"
    with suppress(ZeroDivisionError):
        async with transaction():
            await ledger.save(Changes(transactions=[whole]))
            read = await ledger.transactions([whole.id])
            raise ZeroDivisionError  # rolls back: it has no entries, which the audit would find
    assert read == {whole.id: whole}
    columns = {column._meta.name for column in Transaction._meta.columns}
    assert {ledger._COLUMNS.get(name, name) for name in TransactionRow.__struct_fields__} == columns


async def test_system_wallets_are_never_locked_and_have_the_ids_that_the_book_knows(database: str) -> None:
    async with transaction():
        nothing = await ledger.load(SYSTEM_WALLET_IDS.values(), [], [])
        assert (nothing.wallets, nothing.keys, nothing.held) == ([], [], {})
    rows = await Wallet.select().where(Wallet.system.is_not_null())
    assert {(row["system"], row["amount_currency"]): row["id"] for row in rows} == SYSTEM_WALLET_IDS
    for row in rows:
        with pytest.raises(ValueError, match="no wallet of a person"):
            await wallet_id_of(row["wallet_number"])


async def test_a_loaded_wallet_is_locked_until_the_end_and_is_then_read_anew(database: str) -> None:
    async with banks(1, "redis://127.0.0.1:1/0") as (bank,):
        (alice,) = await purses(1, holding="5.00", bank=bank)
        async with transaction():
            row = (await load(alice))[alice.id]
            waiting = asyncio.create_task(bank.perform(alice.withdraw("5.00")))
            await until_waiting(database)  # beside the lane
            id = new_id()
            row.amount += 1
            await ledger.save(posted(row, movement(id, alice, "1.00"), legs(id, alice, "1.00", "6.00")))
        assert (await waiting).balance_after == Decimal("1.00")


async def test_a_row_that_somebody_holds_is_told_from_one_that_is_not_there(database: str) -> None:
    alice, bob, carol = [await purse() for _ in range(3)]
    async with row_held(database, bob, carol), transaction():
        loaded = await ledger.load([alice.id, bob.id, 4711], [bob.number, carol.number, "4711"], [])
        assert [row.id for row in loaded.wallets] == [alice.id]
        assert loaded.held == {bob.id: bob.number, carol.id: carol.number}
        with pytest.raises(LockNotAvailableError):
            await ledger.wait_for([alice.id, bob.id])
        raise NothingToKeep


async def test_find_tells_what_is_there_with_the_balance_it_left_and_nothing_else(database: str) -> None:
    async with banks(1, "redis://127.0.0.1:1/0") as (bank,):
        alice, bob = await purses(2, holding="10.00", bank=bank)
        orders: list[Withdraw | Transfer | Deposit] = [
            alice.send("1.00", bob),
            alice.withdraw("2.00"),
            bob.deposit("3.00"),
        ]
        made = [await bank.perform(order) for order in orders]
        asked = [(order.id, order.wallet_id) for order in orders]
        async with transaction():
            found = await ledger.find([*asked, (uuid4(), alice.id)])
        assert found == {
            order.id: (receipt.transaction, receipt.balance_after) for order, receipt in zip(orders, made, strict=True)
        }


@pytest.mark.parametrize("again", ["key", "fee"])
async def test_a_second_use_of_a_key_and_a_second_charge_of_a_period_are_refused_and_leave_nothing(
    database: str, again: str
) -> None:
    alice, bob = await purse(), await purse()
    key = uuid4()
    first, second = (fee_id(alice.id, NOW),) * 2 if again == "fee" else (new_id(), new_id())
    keys = [] if again == "fee" else [key]

    async def save(id: UUID, to: Purse) -> None:
        async with transaction():
            row = (await load(to))[to.id]
            row.amount += 1
            made = [key_row(each, to, id) for each in keys]
            await ledger.save(posted(row, movement(id, to, "1.00"), legs(id, to, "1.00", "1.00"), *made))

    await save(first, alice)
    with pytest.raises(UniqueViolationError):
        await save(second, bob)
    assert (await alice.balance(), await bob.balance()) == ("1.00", "0.00")
    assert (await Transaction.count(), await Entry.count()) == (1, 2)


async def test_a_message_that_is_owed_already_is_not_owed_twice(database: str) -> None:
    alice = await purse()
    message = MessageRow(event="e", user_id=alice.owner, template="wallet_blocked", params={"a": 'quote " {} \\ ü'})
    for _ in range(2):
        async with transaction():
            await ledger.save(Changes(wallets=await load(alice), messages=[message]))
    (row,) = await Message.select().output(load_json=True)
    assert (row["params"], row["user"]) == (message.params, alice.owner)


async def test_an_exception_rolls_back_and_a_transaction_inside_another_is_refused(database: str) -> None:
    alice = await purse()

    async def fail() -> None:
        async with transaction():
            await Wallet.update({Wallet.name: "gone"}).where(Wallet.id == alice.id)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert (await alice.row())["name"] == "My wallet"
    async with transaction():
        with pytest.raises(TransactionError):
            async with transaction():
                pass
    async with transaction():
        assert engine().transaction_exists()
    assert not engine().transaction_exists()


# Each needs one deposit to be there: `$1` is its wallet, `$2` its owner.
GUARDS = {
    "transactions are not changed": ('UPDATE "transaction" SET "amount" = 1', IntegrityConstraintViolationError),
    "transactions are not deleted": ('DELETE FROM "transaction"', IntegrityConstraintViolationError),
    "transactions are not emptied": ('TRUNCATE "transaction"', IntegrityConstraintViolationError),
    "entries are not changed": ('UPDATE "entry" SET "amount" = 1', IntegrityConstraintViolationError),
    "entries are not deleted": ('DELETE FROM "entry"', IntegrityConstraintViolationError),
    "entries are not emptied": ('TRUNCATE "entry"', IntegrityConstraintViolationError),
    "what staff did is not changed": ('UPDATE "staff_action" SET "reason" = \'x\'', IntegrityConstraintViolationError),
    "what staff did is not deleted": ('DELETE FROM "staff_action"', IntegrityConstraintViolationError),
    "what staff did is not emptied": ('TRUNCATE "staff_action"', IntegrityConstraintViolationError),
    "staff have a reason": (
        """INSERT INTO "staff_action" ("id", "staff", "staff_name", "action", "reason")
            VALUES (gen_random_uuid(), 7, 'ayan', 'FREEZE', ' ')""",
        CheckViolationError,
    ),
    "one reversal of a transaction": (
        """INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
            "received_currency", "reverses") SELECT gen_random_uuid(), 'DEPOSIT', 1, 'KZT', 1, 'KZT', "id"
            FROM "transaction", generate_series(1, 2)""",
        UniqueViolationError,
    ),
    "wallets are not deleted": ('DELETE FROM "wallet" WHERE "id" = {id}', IntegrityConstraintViolationError),
    "wallets are not emptied": ('TRUNCATE "wallet" CASCADE', IntegrityConstraintViolationError),
    "owners are not deleted": ("""DELETE FROM "user" WHERE "id" = '{owner}'""", RestrictViolationError),
    "no balance is negative": ('UPDATE "wallet" SET "amount" = -0.01 WHERE "id" = {id}', CheckViolationError),
    "no balance is beyond the limit": (
        'UPDATE "wallet" SET "amount" = 1e25 WHERE "id" = {id}',
        asyncpg.exceptions.NumericValueOutOfRangeError,
    ),
    "no movement is of nothing": (
        """INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
            "received_currency") VALUES (gen_random_uuid(), 'DEPOSIT', 0, 'KZT', 0, 'KZT')""",
        CheckViolationError,
    ),
    "one wallet in a currency": (
        """INSERT INTO "wallet" ("user", "wallet_number", "amount_currency")
            VALUES ('{owner}', '1234567890', 'KZT')""",
        UniqueViolationError,
    ),
    "one wallet with a number": (
        """INSERT INTO "wallet" ("user", "wallet_number", "amount_currency")
            VALUES ('{owner}', '{number}', 'EUR')""",
        UniqueViolationError,
    ),
    "numbers have ten digits": (
        """INSERT INTO "wallet" ("user", "wallet_number", "amount_currency")
            VALUES ('{owner}', '12345', 'EUR')""",
        CheckViolationError,
    ),
    "currencies are known": (
        """UPDATE "wallet" SET "amount_currency" = 'XXX' WHERE "id" = {id}""",
        CheckViolationError,
    ),
    "wallets are somebody's": ('UPDATE "wallet" SET "user" = NULL WHERE "id" = {id}', CheckViolationError),
    "system wallets are nobody's": (
        """UPDATE "wallet" SET "user" = '{owner}' WHERE "system" = 'cash'""",
        CheckViolationError,
    ),
    "a second use of a key": (
        """INSERT INTO "idempotency_key" ("id", "user", "key", "fingerprint", "transaction", "balance_after")
            SELECT "id", "user", "key", "fingerprint", "transaction", "balance_after" FROM "idempotency_key" """,
        UniqueViolationError,
    ),
    "a second transaction with an id": (
        'INSERT INTO "transaction" SELECT * FROM "transaction"',
        UniqueViolationError,
    ),
}


async def test_the_database_itself_refuses_what_must_never_be(database: str) -> None:
    async with banks(1, "redis://127.0.0.1:1/0") as (bank,):
        alice = await purse()
        await bank.perform(alice.deposit("5.00", "k"))
    async with connected(database) as connection:
        refusals: dict[str, type[Exception] | None] = {}
        for rule, (statement, _) in GUARDS.items():
            refusals[rule] = None
            try:
                await connection.execute(statement.format(id=alice.id, owner=alice.owner, number=alice.number))
            except asyncpg.PostgresError as refused:
                refusals[rule] = type(refused)
        assert refusals == {rule: refusal for rule, (_, refusal) in GUARDS.items()}
    assert await alice.balance() == "5.00"


async def test_a_correct_row_passes_the_guards(database: str) -> None:
    """Otherwise the test above could refuse everything."""
    alice = await purse()
    async with connected(database) as connection:
        for place, currency in enumerate(CURRENCIES[1:]):
            await connection.execute(
                'INSERT INTO "wallet" ("user", "wallet_number", "amount_currency") VALUES ($1, $2, $3)',
                alice.owner,
                f"123456789{place}",
                currency,
            )
        await connection.execute('UPDATE "wallet" SET "amount" = 0 WHERE "user" = $1', alice.owner)
