"""`wallet user export` and `erase`: everything we keep about a person in one document, and then no more of it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from asyncpg import Connection
from msgspec import Struct
from redis.asyncio import Redis

from app.people.lookup import PersonError
from db.transaction import run, snapshot, transaction

UNUSABLE = "erased"  # no hash of any password


class Erased(Struct, frozen=True, kw_only=True):
    """What an erasure leaves to do once it is committed."""

    user_id: UUID
    image: str | None


_PERSON = """
SELECT id, email, phone_number, first_name, last_name, created_at AS registered_at, updated_at, blocked_at, erased_at,
    CASE WHEN profile_image IS NOT NULL THEN $1::text || '/' || profile_image END AS profile_image
FROM "user" WHERE id = $2
"""
_WALLETS = """
SELECT id, wallet_number, name, amount AS balance, amount_currency AS currency, is_active, fee_due_at, frozen_at,
    created_at AS opened_at FROM wallet WHERE "user" = $1 ORDER BY id
"""
_HISTORY = """
SELECT t.id, t.created_at AS at, t.operation_type, e.amount AS change, e.balance_after, t.amount AS sent_amount,
    t.amount_currency AS sent_currency, t.received_amount, t.received_currency, t.exchange_rate,
    s.wallet_number AS sender_wallet_number, r.wallet_number AS receiver_wallet_number, t.reference, t.reverses
FROM entry e JOIN "transaction" t ON t.id = e.transaction
LEFT JOIN wallet s ON s.id = t.sender LEFT JOIN wallet r ON r.id = t.receiver
WHERE e.wallet = $1 ORDER BY e.id
"""
# Of the person: each is a list of the document.
_LISTS = {
    "idempotency_keys": 'SELECT key, transaction, created_at AS used_at FROM idempotency_key WHERE "user" = $1',
    "messages": """
        SELECT template, channel, coalesce(recipient, 'your own address') AS recipient, params AS content,
            created_at AS written_at, sent_at FROM message
        WHERE "user" = $1 OR recipient IN (SELECT unnest(ARRAY[email, phone_number]) FROM "user" WHERE id = $1)
        ORDER BY created_at
    """,
    "sessions": """
        SELECT family AS id, min(issued_at) AS signed_in_at, max(issued_at) AS last_used_at,
            max(expires_at) AS expires_at, max(revoked_at) AS ended_at, max(user_agent) AS user_agent
        FROM refresh_token WHERE "user" = $1
        GROUP BY family ORDER BY 2
    """,
    "actions_of_staff": """
        SELECT a.created_at AS at, a.action, w.wallet_number, a.transaction, a.reason
        FROM staff_action a LEFT JOIN wallet w ON w.id = a.wallet
        WHERE w."user" = $1 OR a."user" = $1 ORDER BY a.created_at
    """,
}


async def export(user_id: UUID, out: TextIO, *, media_folder: Path) -> None:
    """
    Write one JSON document with everything that is kept about the person, as of one moment.

    Row by row: a history of millions is never in memory. Codes, tokens and the password's hash are not in it.
    """
    async with snapshot() as connection:
        person = await connection.fetchrow(_PERSON, str(media_folder), user_id)
        out.write('{"person":' + _json(dict(person)) + ',\n"wallets":[')
        for place, wallet in enumerate(await connection.fetch(_WALLETS, user_id)):
            out.write(",\n" if place else "\n")
            out.write(_json(dict(wallet))[:-1] + ',"history":')
            await _write_list(connection, out, _HISTORY, wallet["id"])
            out.write("}")
        out.write("]")
        for name, statement in _LISTS.items():
            out.write(f',\n"{name}":')
            await _write_list(connection, out, statement, user_id)
        out.write("}\n")


async def _write_list(connection: Connection, out: TextIO, statement: str, argument: Any) -> None:
    out.write("[")
    first = True
    async for row in connection.cursor(statement, argument, prefetch=1_000):
        out.write("\n" if first else ",\n")
        out.write(_json({name: json.loads(value) if name == "content" else value for name, value in row.items()}))
        first = False
    out.write("]")


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, default=lambda value: value.isoformat() if hasattr(value, "isoformat") else str(value))


@contextmanager
def private_file(path: Path) -> Iterator[TextIO]:
    """A new file that only its owner may read; gone again where the block fails. Raises `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


_MESSAGES = """
UPDATE message SET recipient = NULL, params = '{}', sealed = NULL, last_error = NULL, next_attempt_at = NULL
WHERE """
_KEYS = """UPDATE idempotency_key SET key = '' WHERE "user" = $1"""


async def erase(user_id: UUID) -> Erased:
    """
    Take the person out of every row but the ledger's, in one transaction; call `clean_up_after` when it is committed.

    Their wallets are frozen: nothing arrives any more, and no fee is due.

    Raises:
        PersonError: they were erased before, or a wallet has money in it. Nothing has changed.
    """
    async with transaction():
        await run("SET LOCAL lock_timeout = '5s'")
        # Not as strong as what the last statement takes: whoever pays refers to the row, and holds a wallet by then.
        rows = await run(
            'SELECT email, phone_number, profile_image, erased_at FROM "user" WHERE id = $1 FOR NO KEY UPDATE', user_id
        )
        if not rows or rows[0]["erased_at"]:
            raise PersonError("This person has been erased already.")
        before = rows[0]
        await _refuse_money(user_id, lock=False)
        # What reads whole tables comes before anybody's wallet is held.
        await run(_MESSAGES + "recipient = ANY($1::text[])", [before["email"], before["phone_number"]])
        await run(_KEYS, user_id)
        await _refuse_money(user_id, lock=True)
        await run(f"{_KEYS} AND created_at > now() - interval '1 minute'", user_id)
        await run(
            "UPDATE wallet SET name = 'Erased', frozen_at = coalesce(frozen_at, now()), updated_at = now()"
            ' WHERE "user" = $1',
            user_id,
        )
        await run(
            """
            UPDATE "user" SET email = 'erased-' || id || '@erased.invalid',
                phone_number = 'x' || left(replace(id::text, '-', ''), 15), password_hash = $2, first_name = '',
                last_name = '', profile_image = NULL, updated_at = now(), erased_at = now() WHERE id = $1
            """,
            user_id,
            UNUSABLE,
        )
        await run(_MESSAGES + '"user" = $1', user_id)
        # The rows stay: every process learns from them that the sessions have ended.
        await run(
            'UPDATE refresh_token SET revoked_at = coalesce(revoked_at, now()), user_agent = NULL WHERE "user" = $1',
            user_id,
        )
    return Erased(user_id=user_id, image=before["profile_image"])


async def clean_up_after(erased: Erased, *, media_folder: Path, redis: Redis) -> None:
    """Delete the image, and a change of password that waits for its code. Raises what Redis raises."""
    if erased.image:
        (media_folder / erased.image).unlink(missing_ok=True)
    async for key in redis.scan_iter(match=f"wallet:code:*:{erased.user_id}:*", count=1_000):
        await redis.delete(key)


async def _refuse_money(user_id: UUID, *, lock: bool) -> None:
    statement = 'SELECT wallet_number, amount, amount_currency FROM wallet WHERE "user" = $1 ORDER BY id'
    rows = await run(f"{statement} FOR NO KEY UPDATE" if lock else statement, user_id)
    full = [f"{row['wallet_number']} ({row['amount']} {row['amount_currency']})" for row in rows if row["amount"]]
    if full:
        raise PersonError(f"There is still money in {', '.join(full)}. Have it withdrawn or sent elsewhere first.")
