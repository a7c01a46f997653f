"""
`GET …/transactions/`: a wallet's history, in pages.

Whatever part is asked for, and however long the history is, only that part is read.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from msgspec import Struct

from actors.refusals import DatabaseUnavailable, FieldError, WalletNotFound
from app.auth.tokens import SIGNED_OUT, Caller, signed_in
from app.http.controller import OrderedController
from app.http.parameters import BIGINT_MAX, EARLIEST, INSTANT, LATEST, WalletId, instant, wallet_id_in
from app.http.problems import ValidationFailed, problems
from app.payments.views import OPERATION_TYPES, OperationType, TransactionView, transaction_view
from app.wallets.views import wallet_of
from db.ledger import transaction_row
from db.tables import Entry, Wallet

# By so much may the clocks of two machines differ that have written to one wallet: while processes of a version that
# dated by its host's clock still run.
_CLOCKS = timedelta(seconds=5)

_WENT_BACK = 'SELECT "dates_went_back" FROM "wallet" WHERE "id" = {}'

# The entries of a wallet are in the order of their time, but for what `db/dates.py` tells of. So the first one of a
# time is found by halving what is left, twenty to forty looks into the index: to walk there took half a second in a
# history of 200 000.
_FIRST_OF = """
WITH RECURSIVE search("before", "first") AS (
    SELECT 0::bigint, coalesce(max("id"), 0) + 1 FROM "entry" WHERE "wallet" = {}
    UNION ALL
    SELECT CASE WHEN look."id" IS NULL OR look."created_at" < {} THEN "middle" ELSE "before" END,
        CASE WHEN look."created_at" >= {} THEN look."id" ELSE "first" END
    FROM search CROSS JOIN LATERAL (SELECT ("before" + "first") / 2 AS "middle") half
    LEFT JOIN LATERAL (
        SELECT e."id", t."created_at" FROM "entry" e JOIN "transaction" t ON t."id" = e."transaction"
        WHERE e."wallet" = {} AND e."id" > "before" AND e."id" <= "middle" ORDER BY e."id" DESC LIMIT 1
    ) look ON true
    WHERE "first" - "before" > 1
)
SELECT min("first") AS "id" FROM search
"""

_PAGE = """
SELECT t.*, e."id" AS "entry_id", e."balance_after", s."wallet_number" AS "sender_number",
    r."wallet_number" AS "receiver_number"
FROM "entry" e
JOIN "transaction" t ON t."id" = e."transaction"
LEFT JOIN "wallet" s ON s."id" = t."sender"
LEFT JOIN "wallet" r ON r."id" = t."receiver"
WHERE e."wallet" = {} AND e."id" >= {} AND e."id" < {} AND t."operation_type" = ANY({}::text[])
    AND t."created_at" >= {} AND t."created_at" < {}
ORDER BY e."id" DESC LIMIT {}
"""


class Page(Struct, frozen=True):
    """A piece of a wallet's history, newest first, and the cursor of the next, older one."""

    transactions: list[TransactionView]
    next_cursor: str | None


async def history(
    wallet_id: int,
    *,
    limit: int,
    operation_type: OperationType | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
) -> Page:
    """
    A page of a wallet's transactions, newest first; `since` is inclusive, `until` is not.

    The caller's right to see them has been checked. Raises `ValidationFailed` for a cursor that is not ours.
    """
    types = [operation_type] if operation_type else list(OPERATION_TYPES)
    before = _entry_id(cursor) if cursor else BIGINT_MAX
    first = 0
    if (since or until) and (unsure := await _unsure(wallet_id)) is not None:
        if since:
            first = await _first_of(wallet_id, _moved(since, -unsure))
        if until:
            before = min(before, await _first_of(wallet_id, _moved(until, unsure)))
    rows = await Entry.raw(_PAGE, wallet_id, first, before, types, since or EARLIEST, until or LATEST, limit + 1)
    page, more = rows[:limit], len(rows) > limit
    views = [
        transaction_view(transaction_row(row), row["sender_number"], row["receiver_number"], row["balance_after"])
        for row in page
    ]
    return Page(views, _cursor(page[-1]["entry_id"]) if more else None)


async def _unsure(wallet_id: int) -> timedelta | None:
    """By how much an entry may be older than one before it; None where nobody knows, so that one has to walk."""
    (found,) = await Wallet.raw(_WENT_BACK, wallet_id)
    went_back: timedelta | None = found["dates_went_back"]
    return None if went_back is None else went_back + _CLOCKS


def _moved(moment: datetime, by: timedelta) -> datetime:
    """Within what a date can be."""
    try:
        return moment + by
    except OverflowError:
        return EARLIEST if by < timedelta(0) else LATEST


async def _first_of(wallet_id: int, moment: datetime) -> int:
    """The id of the first entry that is not older than this; one behind the last where all are."""
    (found,) = await Entry.raw(_FIRST_OF, wallet_id, moment, moment, wallet_id)
    id: int = found["id"]
    return id


def _cursor(entry_id: int) -> str:
    return urlsafe_b64encode(entry_id.to_bytes(8)).decode().rstrip("=")


def _entry_id(cursor: str) -> int:
    try:
        entry_id = int.from_bytes(urlsafe_b64decode(cursor + "="))
        if cursor != _cursor(entry_id) or entry_id > BIGINT_MAX:
            raise ValueError(cursor)
    except (ValueError, OverflowError):
        message = "Expected the cursor of a Link header, unchanged."
        raise ValidationFailed(FieldError(field="cursor", message=message)) from None
    return entry_id


class HistoryController(OrderedController):
    """What has moved in a wallet of the caller's."""

    path = "/users/wallets/{id:str}"
    tags = ["Payments"]
    before_request = staticmethod(signed_in)

    @get(
        "/transactions",
        summary="List a wallet's transactions",
        response_description="A page of transactions.",
        responses=problems(ValidationFailed, *SIGNED_OUT, WalletNotFound, DatabaseUnavailable),
    )
    async def transactions(
        self,
        request: Request[Caller, Any, Any],
        id: WalletId,
        caller: NamedDependency[Caller],
        limit: Annotated[int, QueryParameter(ge=1, le=200, description="Page size, at most 200.")] = 50,
        operation_type: FromQuery[OperationType | None] = None,
        since: Annotated[
            str | None, QueryParameter(description="Only transactions at or after this instant.", schema_extra=INSTANT)
        ] = None,
        until: Annotated[
            str | None, QueryParameter(description="Only transactions before this instant.", schema_extra=INSTANT)
        ] = None,
        cursor: Annotated[
            str | None, QueryParameter(description="The cursor in the previous page's `Link` header.")
        ] = None,
    ) -> Response[list[TransactionView]]:
        """The wallet's transactions, newest first. `Link: <…>; rel="next"` (RFC 8288) leads to the next page."""
        wallet = await wallet_of(caller.user_id, wallet_id_in(id))
        page = await history(
            wallet.id,
            limit=limit,
            operation_type=operation_type,
            since=instant(since, "since"),
            until=instant(until, "until"),
            cursor=cursor,
        )
        headers = {"Link": _next_page(request, page.next_cursor)} if page.next_cursor else None
        return Response(page.transactions, headers=headers)


def _next_page(request: Request[Any, Any, Any], cursor: str) -> str:
    """The same query with another cursor."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'
