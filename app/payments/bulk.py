"""`…/transfers/`: many transfers in one request."""

from typing import Annotated, Any

from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from actors.orders import BULK_MAX, Bulk, Payment, Receipt, bulk_of
from actors.refusals import (
    BulkRefused,
    DatabaseUnavailable,
    FieldError,
    IdempotencyKeyReused,
    InsufficientFunds,
    Overloaded,
    RatesUnavailable,
    Refusal,
    WalletNotFound,
)
from app.auth.tokens import SIGNED_OUT, signed_in
from app.http.answers import Answer
from app.http.bodies import first_of
from app.http.controller import OrderedController
from app.http.problems import BAD_BODY, ValidationFailed, problem_type, problems
from app.limits.requests import LIMITED
from app.payments.handler import Initiator, PaymentHandler
from app.payments.probing import ProbingLimit
from app.payments.routes import REPLAYED, TransferBody
from app.payments.views import TransactionView, receipt_view

# A transfer takes at most 1 752 bytes without spaces: 10 of number, 15 of amount, 140 characters of reference of twelve
# bytes each (an emoji, written as two \u escapes), 47 of names and punctuation. That leaves room to indent it.
BULK_BODY_MAX_BYTES = BULK_MAX * 2 * 1024

_EXAMPLE = [
    {"wallet_number": "4000000000", "amount": "50.00", "reference": "Salary November"},
    {"wallet_number": "4000000000", "amount": "25.00"},
]


class BulkBody(Struct, frozen=True, kw_only=True):
    """Transfers in the order in which they are made, and whether each is made for itself or all or none."""

    transfers: Annotated[list[TransferBody], Meta(min_length=1, max_length=BULK_MAX, examples=[_EXAMPLE])]
    atomic: Annotated[bool, Meta(description="Make all transfers or none.", examples=[False])] = False

    @property
    def payment_count(self) -> int:
        """Each transfer counts against the caller's limit."""
        return len(self.transfers)

    def bulk(self, by: Initiator) -> Bulk:
        """
        The orders.

        Raises:
            ValidationFailed: naming every amount that is none.
        """
        payments: list[Payment] = []
        errors: list[FieldError] = []
        for place, transfer in enumerate(self.transfers):
            try:
                payments.append(transfer.payment())
            except ValidationFailed as refusal:
                errors += [replace(error, field=f"transfers[{place}].{error.field}") for error in refusal.errors]
        if errors:
            raise ValidationFailed(*errors, detail=first_of(errors))
        return bulk_of(payments, caller_id=by.caller_id, wallet_id=by.wallet_id, atomic=self.atomic, key=by.key)


class ItemProblem(Struct, frozen=True, kw_only=True):
    """Why one transfer was turned down: as in a problem document, but for its `instance`."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class Item(Struct, frozen=True, kw_only=True):
    """What one transfer came to: the status that it would have had alone, and its transaction or its problem."""

    status: int
    transaction: TransactionView | UnsetType = UNSET
    problem: ItemProblem | UnsetType = UNSET


class BulkAnswer(Struct, frozen=True):
    """What each transfer came to, by its position in the request."""

    transfers: list[Item]


def _successes() -> dict[int, ResponseSpec]:
    """The two successes, for the OpenAPI document."""
    made = {
        "id": "01a209dd-5b5c-7c31-a29c-0f64ad8d2800",
        "operation_type": "TRANSFER",
        "amount": "50.00",
        "amount_currency": "KZT",
        "received_amount": "0.08",
        "received_currency": "EUR",
        "exchange_rate": "0.001657438381",
        "sender": {"wallet_number": "4378526578"},
        "receiver": {"wallet_number": "4000000000"},
        "reference": "Salary November",
        "balance_after": "10.00",
        "created_at": "2026-11-25T12:00:00.000000Z",
    }
    problem = _problem(InsufficientFunds())
    first: dict[str, Any] = {"status": 201, "transaction": made}
    second: dict[str, Any] = {"status": problem.status, "problem": problem}
    return {
        201: _success("Every transfer was made.", [first]),
        207: _success("Not every transfer was made: each has its own status.", [first, second]),
    }


def _success(description: str, items: list[dict[str, Any]]) -> ResponseSpec:
    return ResponseSpec(
        data_container=BulkAnswer,
        description=description,
        generate_examples=False,
        examples=[Example(summary=description, value={"transfers": items})],
    )


def _problem(refusal: Refusal) -> ItemProblem:
    return ItemProblem(
        type=problem_type(refusal.code),
        title=refusal.title,
        status=refusal.status,
        detail=str(refusal),
        code=refusal.code,
    )


class BulkController(OrderedController):
    """A bulk is many orders that arrive together: what holds for one transfer holds for each of its."""

    path = "/users/wallets/{id:str}"
    tags = ["Payments"]
    before_request = staticmethod(signed_in)

    @PaymentHandler(
        "/transfers",
        summary="Send money to many",
        responses={
            **_successes(),
            **problems(
                *(*BAD_BODY, BulkRefused, *SIGNED_OUT, WalletNotFound, IdempotencyKeyReused),
                *(*LIMITED, Overloaded, DatabaseUnavailable, RatesUnavailable),
            ),
        },
        request_max_body_size=BULK_BODY_MAX_BYTES,
    )
    async def transfers(
        self, data: JSONBody[BulkBody], by: NamedDependency[Initiator], probing_limit: NamedDependency[ProbingLimit]
    ) -> Answer[BulkAnswer]:
        """
        Makes 1 to 1 000 transfers from one of your wallets, in order.

        Each transfer stands for itself: the status is 201 if all were made, otherwise 207, with the transaction or the
        problem of each. With `atomic`, all are made or none: if any is refused, the status is 400 (503 if only exchange
        rates are missing) and `errors` lists each refused transfer; if you can't pay for all of it, only those that are
        in the way on your side. An `Idempotency-Key` covers the whole request: when
        it is repeated, transfers that were made are answered again, and those that were refused are tried again.
        """
        return _answer(await probing_limit.bulk(data.bulk(by)))


def _answer(outcomes: list[Receipt | Refusal]) -> Answer[BulkAnswer]:
    made = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    replayed = len(made) == len(outcomes) and all(receipt.replayed for receipt in made)
    return Answer(
        BulkAnswer([_item(outcome) for outcome in outcomes]),
        status_code=201 if len(made) == len(outcomes) else 207,
        headers=REPLAYED if replayed else (),
    )


def _item(outcome: Receipt | Refusal) -> Item:
    if isinstance(outcome, Receipt):
        return Item(status=201, transaction=receipt_view(outcome))
    return Item(status=outcome.status, problem=_problem(outcome))
