"""What comes in paths, queries and headers, and how it is read."""

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar.params import HeaderParameter, PathParameter

from actors.refusals import FieldError, WalletNotFound
from app.http.problems import ValidationFailed

WalletId = Annotated[str, PathParameter(description="The wallet's id (not its number).")]

KEY_LENGTH_MAX = 255
BIGINT_MAX = 2**63 - 1

IdempotencyKeyHeader = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        min_length=1,
        max_length=KEY_LENGTH_MAX,
        pattern=r"^[\x20-\x7e]*$",
        description=(
            f"1 to {KEY_LENGTH_MAX} printable ASCII characters of your choice. A request repeated with the same key and"
            " body moves money once, and gets the first answer again with `Idempotent-Replayed: true`. A key is kept"
            " for at least 7 days."
        ),
    ),
]

INSTANT = {"format": "date-time", "examples": ["2026-11-23T12:00:00Z"]}

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)

# No transaction is older than the first or younger than the second; both fit PostgreSQL in any time zone.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def wallet_id_in(path: str) -> int:
    """
    The wallet id that a path names.

    Raises:
        WalletNotFound: no wallet can have it: it is not a number, or beyond what an id can be.
    """
    if not _DIGITS.fullmatch(path) or int(path) > BIGINT_MAX:
        raise WalletNotFound()
    return int(path)


def instant(text: str | None, field: str) -> datetime | None:
    """
    An instant in a query, as ISO 8601 with a time zone; None where there is none.

    Raises:
        ValidationFailed: it is something else, or far outside of our time.
    """
    if text is None:
        return None
    try:
        # A plus sign that was not escaped arrives as a space.
        moment = msgspec.convert(text.replace(" ", "+"), datetime)
        if moment.tzinfo is not None and EARLIEST <= moment <= LATEST:
            return moment
    except (msgspec.ValidationError, OverflowError):
        pass
    message = "Expected an instant with its time zone, such as 2026-11-23T12:00:00Z."
    raise ValidationFailed(FieldError(field=field, message=message))
