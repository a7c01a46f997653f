"""A past for wallets: years of transfers loaded in a few statements, as true to the ledger as if they had been made."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from bench.people import OPENING_BALANCE, rest, settle_in
from db.tables import Transaction, Wallet

# Every so many-th transfer of the ring is followed by one to the merchant.
_STRIDE = 3
# How many of them in one statement.
_CHUNK = 500_000
_APART = timedelta(seconds=10)

# One unit goes round a ring of wallets, each sending it on to the next; the first lends it, and has one less. So every
# wallet holds what it began with, less what it has paid to the merchant, and one more between receiving and sending:
# each balance can be told from how many transfers there were before, `k`, without adding anything up. Who pays the
# merchant pays it in each round, since the stride divides the number of wallets.
_TRANSFERS = """
WITH ring AS (
    SELECT k, k % {wallets} AS nth, (k + 1) % {wallets} AS next_nth,
        CASE WHEN k % {stride} = 0 THEN k / {wallets} ELSE 0 END AS paid,
        CASE WHEN (k + 1) % {stride} = 0 THEN (k + 1) / {wallets} ELSE 0 END AS next_paid
    FROM generate_series({first}::bigint, {last}::bigint) k
), moved AS MATERIALIZED (
    SELECT uuidv7() AS "id", k, leg.*, timestamptz '{ended_at}' - ({transfers} - k) * interval '{seconds} s'
        AS "created_at"
    FROM ring, LATERAL (
        SELECT 1 AS "leg", {after} + 1 + nth AS "sender", {after} + 1 + next_nth AS "receiver",
            {opening} - (nth = 0)::int - paid AS "sender_has",
            {opening} + (next_nth <> 0)::int - next_paid AS "receiver_has"
        UNION ALL
        SELECT 2, {after} + 1 + nth, {merchant}, {opening} - (nth = 0)::int - paid - 1, {opening} + k / {stride} + 1
        WHERE k % {stride} = 0
    ) leg
), transactions AS (
    INSERT INTO "transaction" ("id", "operation_type", "amount", "amount_currency", "received_amount",
        "received_currency", "sender", "receiver", "created_at")
    SELECT "id", 'TRANSFER', 1.00, 'KZT', 1.00, 'KZT', "sender", "receiver", "created_at" FROM moved
)
INSERT INTO "entry" ("transaction", "wallet", "amount", "balance_after")
SELECT moved."id", side.* FROM moved, LATERAL (
    VALUES ("sender", -1.00, "sender_has"), ("receiver", 1.00, "receiver_has")
) side
"""

_BALANCES = """
UPDATE "wallet" SET "amount" = {opening} - has."paid" + has."more"
FROM (
    SELECT {after} + 1 + nth AS "id",
        CASE WHEN nth % {stride} = 0 AND nth < {transfers} THEN ({transfers} - 1 - nth) / {wallets} + 1 ELSE 0 END
            AS "paid",
        CASE WHEN {transfers} % {wallets} = 0 THEN 0 ELSE (nth = {transfers} % {wallets})::int - (nth = 0)::int END
            AS "more"
    FROM generate_series(0, {wallets} - 1) nth
    UNION ALL
    SELECT {merchant}, 0, ({transfers} + {stride} - 1) / {stride}
) has
WHERE "wallet"."id" = has."id" AND (has."paid" <> 0 OR has."more" <> 0)
"""


class Past(Struct, frozen=True, kw_only=True):
    """What was loaded: whom a third of the transfers are followed by a payment to, and when that began and ended."""

    merchant_id: int
    began_at: datetime
    ended_at: datetime


async def live_through(*, wallets: int, entries: int) -> Past:
    """
    Load so many more wallets with a past of so many entries, and one merchant.

    The merchant has an eighth of the entries that are not those of opening deposits.
    """
    transfers = (entries - 2 * wallets) * _STRIDE // (2 * _STRIDE + 2)  # with its share of a payment, 8/3 entries each
    if wallets % _STRIDE or transfers < 1:
        raise ValueError(f"a past needs a multiple of {_STRIDE} wallets, with more than two entries each")
    after = await settle_in(wallets + 1)
    merchant, ended_at = after + wallets + 1, datetime.now(UTC)
    past = {
        "wallets": wallets,
        "transfers": transfers,
        "after": after,
        "merchant": merchant,
        "stride": _STRIDE,
        "opening": OPENING_BALANCE,
        "seconds": _APART.total_seconds(),
        "ended_at": ended_at.isoformat(),
    }
    for first in range(0, transfers, _CHUNK):
        last = min(first + _CHUNK, transfers) - 1
        await Transaction.raw(_TRANSFERS.format(first=first, last=last, **past))
    await Wallet.raw(_BALANCES.format(**past))
    await rest()
    return Past(merchant_id=merchant, began_at=ended_at - transfers * _APART, ended_at=ended_at)
