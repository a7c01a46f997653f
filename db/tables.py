"""The tables. What must never be is refused here or by the triggers in `db/migrations/`."""

import re
import warnings
from decimal import Decimal

from piccolo.columns import (
    JSONB,
    UUID,
    BigInt,
    BigSerial,
    Boolean,
    Bytea,
    ForeignKey,
    Integer,
    Interval,
    Numeric,
    SmallInt,
    Timestamptz,
    Varchar,
)
from piccolo.columns.base import OnDelete
from piccolo.columns.defaults.timestamptz import TimestamptzNow
from piccolo.columns.defaults.uuid import UUID4
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from db.currencies import CURRENCIES, MINOR_DIGITS

# Piccolo warns that `user` is a reserved word; it quotes the name, and so does every statement here.
warnings.filterwarnings("ignore", message="We recommend giving your table a different name")

# What `app/people/images/` calls the files that `User.profile_image` names. What else lies in the folder is not ours.
IMAGE_NAME = re.compile(r"[0-9a-f]{32}\.(?:png|jpg|webp)")

AMOUNT_DIGITS = (27, MINOR_DIGITS)  # within the 28 that Python's `Decimal` keeps
RATE_DIGITS = (24, 12)
_CODES = ", ".join(f"'{code}'" for code in CURRENCIES)


class User(Table, tablename="user"):
    """A person. Email is kept in lower case, the phone number as E.164."""

    id = UUID(primary_key=True, default=UUID4())
    email = Varchar(length=254, unique=True)
    phone_number = Varchar(length=16, unique=True)
    password_hash = Varchar(length=255, secret=True)
    first_name = Varchar(length=150)
    last_name = Varchar(length=150)
    profile_image = Varchar(length=64, null=True, default=None, help_text="File name under the media folder.")
    blocked_at = Timestamptz(null=True, default=None, help_text="Since when staff let them in no more; null if not.")
    created_at = Timestamptz(default=TimestamptzNow())
    updated_at = Timestamptz(default=TimestamptzNow())
    erased_at = Timestamptz(null=True, default=None, help_text="Since when nothing of the person is left but the row.")


class Wallet(Table, tablename="wallet"):
    """
    A balance in one currency. Only `actors` changes `amount`, `is_active` and `fee_due_at`.

    System wallets (`system`: `cash`, `fees`, `exchange`, `adjustments`) have no user, and their `amount` stays 0: their
    balance is the sum of their entries, so no row of theirs is ever hot.
    """

    id = BigSerial(primary_key=True)
    user = ForeignKey(User, null=True, on_delete=OnDelete.restrict)
    system = Varchar(length=16, null=True, default=None)
    wallet_number = Varchar(length=10, unique=True)
    name = Varchar(length=30, default="My wallet")
    amount = Numeric(digits=AMOUNT_DIGITS, default=Decimal(0))
    amount_currency = Varchar(length=3, default="KZT")
    is_active = Boolean(default=True, help_text="False while a due fee can't be paid.")
    fee_due_at = Timestamptz(null=True, default=None)
    frozen_at = Timestamptz(null=True, default=None, help_text="Since when staff let nothing in or out; null if not.")
    last_entry_at = Timestamptz(null=True, default=None)
    dates_went_back = Interval(
        null=True,
        default=None,
        help_text="By how much its entries' dates have gone back, all in all; null until a worker has looked.",
    )
    created_at = Timestamptz(default=TimestamptzNow())
    updated_at = Timestamptz(default=TimestamptzNow())

    wallet_one_per_currency = Unique([user, amount_currency])
    wallet_one_system_per_currency = Unique([system, amount_currency])
    wallet_amount_not_negative = Check(amount >= 0)
    wallet_number_is_ten_digits = Check("\"wallet_number\" ~ '^[0-9]{10}$'")
    wallet_currency_known = Check(f'"amount_currency" IN ({_CODES})')
    wallet_user_or_system = Check('("user" IS NULL) <> ("system" IS NULL)')


class Transaction(Table, tablename="transaction"):
    """
    One movement, as people see it. Never updated, never deleted.

    `sender` and `receiver` are wallet ids without a foreign key, as are the ids in `Entry`: see
    `docs/decisions/0003-no-foreign-keys-on-the-ledger.md`.
    """

    id = UUID(primary_key=True, default=None)
    operation_type = Varchar(length=16)
    amount = Numeric(digits=AMOUNT_DIGITS)
    amount_currency = Varchar(length=3)
    received_amount = Numeric(digits=AMOUNT_DIGITS)
    received_currency = Varchar(length=3)
    exchange_rate = Numeric(digits=RATE_DIGITS, null=True, default=None)
    sender = BigInt(null=True, default=None)
    receiver = BigInt(null=True, default=None)
    created_at = Timestamptz(default=TimestamptzNow())
    reverses = UUID(null=True, default=None, help_text="The transaction that this one undoes. Each at most once.")
    reference = Varchar(length=140, null=True, default=None, help_text="What the sender says of a transfer.")
    sender_balance = Numeric(
        digits=AMOUNT_DIGITS, null=True, default=None, help_text="What it left the sender: of bulks under a key only."
    )

    transaction_amounts_positive = Check('"amount" > 0 AND "received_amount" > 0')


class Entry(Table, tablename="entry"):
    """One leg of a transaction. The legs of a transaction sum to zero in each currency."""

    id = BigSerial(primary_key=True)
    transaction = UUID(default=None)
    wallet = BigInt()
    amount = Numeric(digits=AMOUNT_DIGITS, help_text="Signed: negative is a debit.")
    balance_after = Numeric(digits=AMOUNT_DIGITS, null=True, default=None, help_text="Null for system wallets.")


class IdempotencyKey(Table, tablename="idempotency_key"):
    """
    A key that a user has used, written in the same commit as the money it moved.

    `id` is a digest of user and key: one index finds a known key and refuses its second use.
    """

    id = UUID(primary_key=True, default=None)
    user = UUID(default=None)
    key = Varchar(length=255)
    fingerprint = Bytea(help_text="Digest of what was asked: another body under the same key is refused.")
    transaction = UUID(default=None)
    balance_after = Numeric(digits=AMOUNT_DIGITS)
    created_at = Timestamptz(default=TimestamptzNow())


class StaffAction(Table, tablename="staff_action"):
    """
    What somebody of the staff did to money, to a wallet or to a person, and why. Never updated, never deleted.

    Written in the same commit as what it tells of. `id` is that of the transaction, where money moved. `staff` is 0
    where it was done on the command line, which asks for no login.
    """

    id = UUID(primary_key=True, default=None)
    staff = BigInt(help_text="The login's id.")
    staff_name = Varchar(length=100, help_text="Its name at that time.")
    action = Varchar(length=16, help_text="ADJUST, REVERSE, FREEZE, UNFREEZE, BLOCK or UNBLOCK.")
    wallet = BigInt(null=True, default=None)
    user = UUID(null=True, default=None, help_text="Who was blocked or unblocked.")
    transaction = UUID(null=True, default=None)
    reason = Varchar(length=500)
    created_at = Timestamptz(default=TimestamptzNow())

    staff_action_is_one_of = Check("\"action\" IN ('ADJUST', 'REVERSE', 'FREEZE', 'UNFREEZE', 'BLOCK', 'UNBLOCK')")
    staff_action_has_a_reason = Check('length(trim("reason")) > 0')


class RefreshToken(Table, tablename="refresh_token"):
    """
    One issued refresh token. Those of one sign-in are a family, which is a session of the user's.

    A spent token seen again revokes its whole family. When and from what somebody signed in goes from row to row, since
    the first ones are forgotten when they have expired.
    """

    id = UUID(primary_key=True, default=UUID4())
    family = UUID(default=None, index=True)
    user = ForeignKey(User, null=False, on_delete=OnDelete.cascade, index=True)
    token_hash = Varchar(length=64, secret=True)
    signed_in_at = Timestamptz(null=True, default=None, help_text="Null where that was before it was kept.")
    user_agent = Varchar(length=200, null=True, default=None)
    issued_at = Timestamptz(default=TimestamptzNow())
    expires_at = Timestamptz(default=None)
    spent_at = Timestamptz(null=True, default=None)
    revoked_at = Timestamptz(null=True, default=None)


class ExchangeRate(Table, tablename="exchange_rate"):
    """What one unit of `base` cost in `quote`, who said so, and of what moment it speaks."""

    id = BigSerial(primary_key=True)
    base = Varchar(length=3)
    quote = Varchar(length=3)
    rate = Numeric(digits=RATE_DIGITS)
    source = Varchar(length=100)
    as_of = Timestamptz(default=None)
    created_at = Timestamptz(default=TimestamptzNow())

    exchange_rate_positive = Check(rate > 0)


class Message(Table, tablename="message"):
    """
    An email or SMS owed to a person: written with the event it tells of, sent by a worker, retried until it is out.

    `event` makes it one row an event. `recipient` is null where the user's own address is meant. A code is never in
    `params`: it waits, sealed, in `sealed` and is erased when the message is out or given up. `request_id` is the
    `X-Request-ID` of the request that it is owed by, where it is one. `given_up_for` is why it will not be sent:
    `recipient` (it can't be reached), `expired` (a code) or `attempts` (all have failed).
    """

    id = UUID(primary_key=True, default=UUID4())
    event = Varchar(length=120, unique=True)
    user = ForeignKey(User, null=True, on_delete=OnDelete.set_null, index=True)
    channel = Varchar(length=8, default="email")
    recipient = Varchar(length=254, null=True, default=None)
    template = Varchar(length=40)
    params = JSONB()
    sealed = Bytea(null=True, default=None, secret=True)
    attempts = Integer(default=0)
    last_error = Varchar(length=200, null=True, default=None)
    next_attempt_at = Timestamptz(null=True, default=TimestamptzNow(), help_text="Null when sent or given up.")
    sent_at = Timestamptz(null=True, default=None)
    created_at = Timestamptz(default=TimestamptzNow())
    request_id = Varchar(length=64, null=True, default=None)
    given_up_at = Timestamptz(null=True, default=None)
    given_up_for = Varchar(length=16, null=True, default=None)


class AuditResult(Table, tablename="audit_result"):
    """What an audit of the ledger has found. The last hundred are kept."""

    id = BigSerial(primary_key=True)
    ok = Boolean(default=False)
    checked_at = Timestamptz(default=None)
    report = JSONB()


class UpkeepClock(Table, tablename="upkeep_clock"):
    """What upkeep knows of PostgreSQL's clock: one row, none before the first look at it."""

    id = SmallInt(primary_key=True, default=1)
    seen_at = Timestamptz(default=None, help_text="When it was looked at last.")
    doubted_at = Timestamptz(null=True, default=None, help_text="When it was last found to have jumped.")

    upkeep_clock_is_one_row = Check('"id" = 1')
