"""
The tables as staff see them: what is not declared here can't be shown, filtered by or ordered by.

They describe the same rows as `db/tables.py`, for reading only: without passwords, tokens, sealed codes and digests,
and with foreign keys where the ledger has plain ids, so that Piccolo Admin makes links of them.
"""

from piccolo.columns import (
    JSONB,
    UUID,
    BigInt,
    BigSerial,
    Boolean,
    ForeignKey,
    Integer,
    Numeric,
    Timestamptz,
    Varchar,
)
from piccolo.columns.readable import Readable
from piccolo.table import Table
from piccolo_admin.endpoints import TableConfig
from piccolo_api.crud.endpoints import OrderBy

from db.tables import AMOUNT_DIGITS, RATE_DIGITS

PEOPLE, MONEY, STAFF, OPERATIONS = "People", "Money", "Staff", "Operations"


class User(Table, tablename="user", help_text="People. Their wallets are under 'Referencing tables'."):
    id = UUID(primary_key=True, default=None)
    email = Varchar(length=254)
    phone_number = Varchar(length=16, help_text="E.164.")
    first_name = Varchar(length=150)
    last_name = Varchar(length=150)
    profile_image = Varchar(length=64, null=True, default=None, help_text="File name under the media folder.")
    blocked_at = Timestamptz(null=True, default=None, help_text="Since when they are let in no more.")
    created_at = Timestamptz()
    updated_at = Timestamptz()
    erased_at = Timestamptz(null=True, default=None, help_text="Since when nothing of the person is left but this row.")

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable(template="%s", columns=[cls.email])


class Wallet(
    Table, tablename="wallet", help_text="Balances. The history of one is under 'Referencing tables': entry, wallet."
):
    id = BigSerial(primary_key=True)
    user = ForeignKey(User, null=True, help_text="Empty for the system wallets that keep the books.")
    system = Varchar(length=16, null=True, default=None, help_text="cash, fees, exchange or adjustments.")
    wallet_number = Varchar(length=10, help_text="Ten digits: what people send money to.")
    name = Varchar(length=30)
    amount = Numeric(digits=AMOUNT_DIGITS, help_text="Changed by orders only: see the forms.")
    amount_currency = Varchar(length=3)
    is_active = Boolean(help_text="False while a due fee can't be paid: it receives, but sends nothing.")
    frozen_at = Timestamptz(null=True, default=None, help_text="Since when staff let nothing in or out.")
    fee_due_at = Timestamptz(null=True, default=None, help_text="When the next monthly fee is due.")
    created_at = Timestamptz()
    updated_at = Timestamptz()

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable(template="%s %s", columns=[cls.wallet_number, cls.amount_currency])


class Transaction(Table, tablename="transaction", help_text="Movements as people see them. Never changed or deleted."):
    id = UUID(primary_key=True, default=None)
    operation_type = Varchar(length=16, help_text="DEPOSIT, WITHDRAW, TRANSFER or FEE.")
    amount = Numeric(digits=AMOUNT_DIGITS)
    amount_currency = Varchar(length=3)
    received_amount = Numeric(digits=AMOUNT_DIGITS)
    received_currency = Varchar(length=3)
    exchange_rate = Numeric(digits=RATE_DIGITS, null=True, default=None)
    sender = ForeignKey(Wallet, null=True, help_text="Empty: from outside.")
    receiver = ForeignKey(Wallet, null=True, help_text="Empty: to the outside.")
    reverses: ForeignKey["Transaction"] = ForeignKey(
        "self", null=True, help_text="The transaction that this one undoes."
    )
    reference = Varchar(length=140, null=True, default=None, help_text="What the sender says of a transfer.")
    sender_balance = Numeric(
        digits=AMOUNT_DIGITS, null=True, default=None, help_text="What it left the sender: of bulks under a key only."
    )
    created_at = Timestamptz()

    @classmethod
    def get_readable(cls) -> Readable:
        # With the time: an entry has none of its own, and a wallet's history is its entries.
        return Readable(template="%s %s, %s", columns=[cls.operation_type, cls.id, cls.created_at])


class Entry(Table, tablename="entry", help_text="The legs of transactions: in each currency they sum to zero."):
    id = BigSerial(primary_key=True)
    transaction = ForeignKey(Transaction, null=False)
    wallet = ForeignKey(Wallet, null=False)
    amount = Numeric(digits=AMOUNT_DIGITS, help_text="Negative is a debit.")
    balance_after = Numeric(digits=AMOUNT_DIGITS, null=True, default=None, help_text="Empty for system wallets.")


class IdempotencyKey(Table, tablename="idempotency_key", help_text="Keys that clients have used, for a week or more."):
    id = UUID(primary_key=True, default=None)
    user = ForeignKey(User, null=False)
    key = Varchar(length=255)
    transaction = ForeignKey(Transaction, null=False)
    balance_after = Numeric(digits=AMOUNT_DIGITS)
    created_at = Timestamptz()


class ExchangeRate(Table, tablename="exchange_rate", help_text="Every rate that was believed, and where it came from."):
    id = BigSerial(primary_key=True)
    base = Varchar(length=3)
    quote = Varchar(length=3)
    rate = Numeric(digits=RATE_DIGITS, help_text="What one unit of base cost in quote.")
    source = Varchar(length=100)
    as_of = Timestamptz()
    created_at = Timestamptz()


class Message(Table, tablename="message", help_text="Emails and SMS: sent, waiting, or given up. Codes are not shown."):
    id = UUID(primary_key=True, default=None)
    event = Varchar(length=120, help_text="One row an event.")
    user = ForeignKey(User, null=True)
    channel = Varchar(length=8)
    recipient = Varchar(length=254, null=True, default=None, help_text="Empty: the user's own address.")
    template = Varchar(length=40)
    params = JSONB()
    attempts = Integer()
    last_error = Varchar(length=200, null=True, default=None)
    next_attempt_at = Timestamptz(null=True, default=None, help_text="Empty when sent or given up.")
    sent_at = Timestamptz(null=True, default=None)
    given_up_at = Timestamptz(null=True, default=None)
    given_up_for = Varchar(length=16, null=True, default=None, help_text="Why it will not be sent.")
    created_at = Timestamptz()
    request_id = Varchar(length=64, null=True, default=None, help_text="As in the logs.")


class StaffAction(
    Table,
    tablename="staff_action",
    help_text="What staff did to money, wallets and people, and why. Never changed or deleted.",
):
    id = UUID(primary_key=True, default=None)
    staff = BigInt(help_text="The login's id.")
    staff_name = Varchar(length=100)
    action = Varchar(length=16, help_text="ADJUST, REVERSE, FREEZE, UNFREEZE, BLOCK or UNBLOCK.")
    wallet = ForeignKey(Wallet, null=True)
    user = ForeignKey(User, null=True)
    transaction = ForeignKey(Transaction, null=True)
    reason = Varchar(length=500)
    created_at = Timestamptz()


TABLES = [
    TableConfig(
        User,
        visible_columns=[
            User.email,
            User.phone_number,
            User.first_name,
            User.last_name,
            User.blocked_at,
            User.created_at,
        ],
        visible_filters=[
            User.email,
            User.phone_number,
            User.first_name,
            User.last_name,
            User.blocked_at,
            User.created_at,
        ],
        link_column=User.email,
        order_by=[OrderBy(User.created_at, ascending=False)],
        menu_group=PEOPLE,
    ),
    TableConfig(
        Message,
        visible_columns=[
            *(Message.template, Message.channel, Message.user, Message.recipient, Message.attempts),
            *(Message.last_error, Message.next_attempt_at, Message.sent_at),
        ],
        visible_filters=[Message.user, Message.recipient, Message.template, Message.channel, Message.sent_at],
        link_column=Message.template,
        order_by=[OrderBy(Message.created_at, ascending=False)],
        menu_group=PEOPLE,
    ),
    TableConfig(
        Wallet,
        visible_columns=[
            *(Wallet.wallet_number, Wallet.user, Wallet.amount, Wallet.amount_currency, Wallet.is_active),
            *(Wallet.frozen_at, Wallet.fee_due_at, Wallet.system),
        ],
        visible_filters=[
            *(Wallet.wallet_number, Wallet.user, Wallet.amount, Wallet.amount_currency, Wallet.is_active),
            *(Wallet.frozen_at, Wallet.fee_due_at, Wallet.system),
        ],
        link_column=Wallet.wallet_number,
        order_by=[OrderBy(Wallet.id, ascending=False)],
        menu_group=MONEY,
    ),
    TableConfig(
        Transaction,
        # By id: they are UUIDv7, so that is by time, and has an index.
        order_by=[OrderBy(Transaction.id, ascending=False)],
        visible_columns=[
            *(Transaction.id, Transaction.created_at, Transaction.operation_type),
            *(Transaction.amount, Transaction.amount_currency, Transaction.received_amount),
            *(Transaction.received_currency, Transaction.sender, Transaction.receiver, Transaction.reverses),
            Transaction.reference,
        ],
        visible_filters=[
            *(Transaction.id, Transaction.operation_type, Transaction.amount, Transaction.amount_currency),
            *(Transaction.sender, Transaction.receiver, Transaction.reverses, Transaction.created_at),
            Transaction.reference,
        ],
        menu_group=MONEY,
    ),
    TableConfig(Entry, order_by=[OrderBy(Entry.id, ascending=False)], menu_group=MONEY),
    TableConfig(
        IdempotencyKey,
        visible_columns=[
            *(IdempotencyKey.key, IdempotencyKey.user, IdempotencyKey.transaction),
            *(IdempotencyKey.balance_after, IdempotencyKey.created_at),
        ],
        link_column=IdempotencyKey.key,
        order_by=[OrderBy(IdempotencyKey.created_at, ascending=False)],
        menu_group=OPERATIONS,
    ),
    TableConfig(ExchangeRate, order_by=[OrderBy(ExchangeRate.id, ascending=False)], menu_group=OPERATIONS),
    TableConfig(
        StaffAction,
        visible_columns=[
            *(StaffAction.created_at, StaffAction.staff_name, StaffAction.action, StaffAction.wallet),
            *(StaffAction.user, StaffAction.transaction, StaffAction.reason),
        ],
        link_column=StaffAction.created_at,
        order_by=[OrderBy(StaffAction.created_at, ascending=False)],
        menu_group=STAFF,
    ),
]
