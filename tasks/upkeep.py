"""Nightly work: prove the ledger, and forget what nobody needs any more, old rows and nameless images."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
from asyncpg.exceptions import LockNotAvailableError
from piccolo.table import Table
from piccolo_api.session_auth.tables import SessionsBase

from db.audit import AuditReport, audit, forget_results, keep_result
from db.tables import IMAGE_NAME, IdempotencyKey, Message, RefreshToken, User
from tasks.clock import look

# Small enough that a batch holds its locks for a moment only, with a pause in which others get their turn.
BATCH = 1_000
PAUSE_SECONDS = 0.05

# What is forgotten, and when. Keys are promised to live for 7 days at least; a refresh token's row must outlive the
# token, or a stolen one used late would look unknown rather than used twice.
_FORGOTTEN: dict[str, tuple[type[Table], str]] = {
    "idempotency_key": (IdempotencyKey, "created_at < {}::timestamptz - interval '8 days'"),
    "refresh_token": (RefreshToken, "expires_at < {}::timestamptz - interval '1 day'"),
    "message": (Message, "next_attempt_at IS NULL AND created_at < {}::timestamptz - interval '90 days'"),
    # Of staff. Piccolo's column has no time zone: two days are past its end in any.
    "sessions": (SessionsBase, "expiry_date < {}::timestamptz::timestamp - interval '2 days'"),
}

IMAGE_BATCH = 5_000
# A file is stored before the row that names it is committed. That takes moments; this leaves a day. What is still
# nameless then was left by a process that died in between, or before it had removed the file.
YOUNG_SECONDS = 86_400

_NAMELESS = """
SELECT name FROM unnest({}::text[]) AS file(name)
WHERE NOT EXISTS (SELECT 1 FROM "user" WHERE "profile_image" = file.name)
"""

_log = logging.getLogger(__name__)


async def clean_up(media_folder: Path) -> dict[str, int]:
    """
    Delete, in batches, old idempotency keys, tokens, messages, staff's sessions, audit results, and images of nobody's.

    How many of each. A table whose rows are needed by no promise any more is here; the ledger never is. A row that
    somebody has locked stays for another night. While the database's clock is in doubt (`tasks/clock.py`) nothing is
    old. It is looked at once: it may jump meanwhile.

    Raises:
        LockNotAvailableError: somebody has locked a table; the others have been cleaned up.
    """
    now = await look()
    if now is None:
        _log.warning("Nothing is deleted: PostgreSQL's clock has jumped within the last days.")
        return {"clock_in_doubt": 1}
    works: dict[str, Callable[[], Awaitable[int]]] = {
        **{name: partial(_forget, name, *what, now) for name, what in _FORGOTTEN.items()},
        "audit_result": forget_results,
        "image": partial(forget_images, media_folder, now),
    }
    gone: dict[str, int] = {}
    locked: LockNotAvailableError | None = None
    for name, work in works.items():
        try:
            gone[name] = await work()
        except LockNotAvailableError as error:
            _log.warning("What is old of %s stays for another night: somebody has locked its table.", name)
            locked = error
    if locked:
        raise locked
    return gone


async def _forget(name: str, table: type[Table], condition: str, now: datetime) -> int:
    # By address: the rows of a batch are found once, and the batch needs no order and no index of its own.
    statement = (
        f"WITH gone AS (DELETE FROM {name} WHERE ctid = ANY (ARRAY("  # noqa: S608 both are constants above
        f"SELECT ctid FROM {name} WHERE {condition} LIMIT {{}} FOR UPDATE SKIP LOCKED)) AND {condition} RETURNING 1)"
        " SELECT count(*) AS gone FROM gone"
    )
    total = 0
    while gone := (await table.raw(statement, now, BATCH, now))[0]["gone"]:
        total += gone
        await asyncio.sleep(PAUSE_SECONDS)
    return total


async def forget_images(folder: Path, now: datetime) -> int:
    """
    Delete the images that have been nobody's for a day; how many. A folder that is not there has none.

    Where the folder can't be read or written to, that is logged: the next night finds what is left.
    """
    total, files = 0, await asyncio.to_thread(_old_images, folder, now.timestamp() - YOUNG_SECONDS)
    while batch := list(islice(files, IMAGE_BATCH)):
        rows = await User.raw(_NAMELESS, batch)
        await asyncio.to_thread(_unlink, folder, [row["name"] for row in rows])
        total += len(rows)
        await asyncio.sleep(PAUSE_SECONDS)
    return total


def _old_images(folder: Path, before: float) -> Iterator[str]:
    before = min(before, time.time() - YOUNG_SECONDS)  # this host's clock may be the one that dates files, or not
    try:
        if not folder.is_dir():
            return iter(())
        images = [path for path in folder.iterdir() if IMAGE_NAME.fullmatch(path.name)]
        return iter([path.name for path in images if path.stat().st_mtime < before])
    except OSError as error:  # elsewhere that is a lost database
        _log.warning("Images can't be cleaned up in %s: %s", folder, error.strerror)
        return iter(())


def _unlink(folder: Path, names: list[str]) -> None:
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("Images can't be deleted in %s: %s", folder, error.strerror)
            return


async def audit_and_keep() -> AuditReport:
    """Prove the ledger, log an error if it does not hold, and write the result down where staff and alerts find it."""
    report = await audit()
    if not report.ok:
        _log.error("The ledger does not hold: %s", msgspec.json.encode(report).decode())
    await keep_result(report)
    return report
