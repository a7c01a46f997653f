"""Money: deposit, withdraw, transfer, and the history of it."""

from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Raw, Struct

from actors.bank import Bank
from actors.orders import Deposit, IdempotencyKey, Receipt, Transfer, Withdraw, new_id
from actors.refusals import (
    AmountTooSmall,
    BalanceLimit,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    InsufficientFunds,
    Overloaded,
    RatesUnavailable,
    SameWallet,
    WalletBlocked,
    WalletFrozen,
    WalletNotFound,
)
from app.auth.tokens import SIGNED_OUT, Caller, signed_in
from app.http.answers import Answer
from app.http.bodies import PlainText, amount_field
from app.http.parameters import INSTANT, IdempotencyKeyHeader, WalletId, instant, wallet_id_in
from app.http.payment_handler import PaymentHandler
from app.http.problems import BAD_BODY, ValidationFailed, problems
from app.limits.payments import PaymentLimits
from app.limits.requests import RateLimited
from app.wallets.history import history
from app.wallets.views import OperationType, Reference, TransactionView, receipt_view, wallet_of

_ANY = (
    *(*BAD_BODY, *SIGNED_OUT, WalletNotFound, WalletFrozen, IdempotencyKeyReused),
    *(RateLimited, Overloaded, DatabaseUnavailable),
)
_SENDING = (InsufficientFunds, WalletBlocked)
REPLAYED = ((b"idempotent-replayed", b"true"),)
_SENT = "The transaction. `balance_after` is that of your wallet."


class DepositOrWithdraw(Struct, frozen=True, kw_only=True):
    """An amount in the wallet's currency."""

    amount: Raw


class TransferBody(Struct, frozen=True, kw_only=True):
    """An amount in the sender's currency, the ten digits of the wallet that receives it, and what both shall read."""

    wallet_number: Annotated[PlainText, Meta(max_length=64, examples=["4000000000"])]
    amount: Raw
    reference: Reference | None = None


class PaymentsController(Controller):
    """What moves money, each an order to the bank."""

    path = "/users/wallets/{id:str}"
    tags = ["Payments"]
    before_request = staticmethod(signed_in)

    @PaymentHandler(
        "/deposit",
        summary="Deposit money",
        response_description=_SENT,
        responses=problems(*_ANY, BalanceLimit),
    )
    async def deposit(
        self,
        request: Request[Caller, Any, Any],
        id: WalletId,
        data: JSONBody[DepositOrWithdraw],
        bank: NamedDependency[Bank],
        payment_limits: NamedDependency[PaymentLimits],
        idempotency_key: IdempotencyKeyHeader = None,
    ) -> Response[TransactionView]:
        """Put money into a wallet of yours. If it is blocked and can now pay its fee, the fee is taken at once."""
        caller_id = request.user.user_id
        payment_limits.count(caller_id)
        order = Deposit(
            id=new_id(),
            caller_id=caller_id,
            wallet_id=wallet_id_in(id),
            amount=amount_field(data.amount),
            key=key_of(caller_id, idempotency_key),
        )
        return _answer(await bank.perform(order))

    @PaymentHandler(
        "/withdraw",
        summary="Withdraw money",
        response_description=_SENT,
        responses=problems(*_ANY, *_SENDING),
    )
    async def withdraw(
        self,
        request: Request[Caller, Any, Any],
        id: WalletId,
        data: JSONBody[DepositOrWithdraw],
        bank: NamedDependency[Bank],
        payment_limits: NamedDependency[PaymentLimits],
        idempotency_key: IdempotencyKeyHeader = None,
    ) -> Response[TransactionView]:
        """Take money out of a wallet of yours."""
        caller_id = request.user.user_id
        payment_limits.count(caller_id)
        order = Withdraw(
            id=new_id(),
            caller_id=caller_id,
            wallet_id=wallet_id_in(id),
            amount=amount_field(data.amount),
            key=key_of(caller_id, idempotency_key),
        )
        return _answer(await bank.perform(order))

    @PaymentHandler(
        "/transfer",
        summary="Send money",
        response_description=_SENT,
        responses=problems(*_ANY, *_SENDING, SameWallet, BalanceLimit, AmountTooSmall, RatesUnavailable),
    )
    async def transfer(
        self,
        request: Request[Caller, Any, Any],
        id: WalletId,
        data: JSONBody[TransferBody],
        bank: NamedDependency[Bank],
        payment_limits: NamedDependency[PaymentLimits],
        idempotency_key: IdempotencyKeyHeader = None,
    ) -> Response[TransactionView]:
        """Send money to any wallet, converted at the current rate where the currencies differ."""
        caller_id = request.user.user_id
        payment_limits.count(caller_id)
        order = Transfer(
            id=new_id(),
            caller_id=caller_id,
            wallet_id=wallet_id_in(id),
            receiver_number=data.wallet_number,
            amount=amount_field(data.amount),
            reference=data.reference,
            key=key_of(caller_id, idempotency_key),
        )
        return _answer(await bank.perform(order))

    @get(
        "/transactions",
        summary="A wallet's history",
        response_description="A page of the history.",
        responses=problems(ValidationFailed, *SIGNED_OUT, WalletNotFound, DatabaseUnavailable),
    )
    async def transactions(
        self,
        request: Request[Caller, Any, Any],
        id: WalletId,
        limit: Annotated[int, QueryParameter(ge=1, le=200, description="How many, at most 200.")] = 50,
        operation_type: FromQuery[OperationType | None] = None,
        since: Annotated[str | None, QueryParameter(description="From this instant on.", schema_extra=INSTANT)] = None,
        until: Annotated[str | None, QueryParameter(description="Before this instant.", schema_extra=INSTANT)] = None,
        cursor: Annotated[str | None, QueryParameter(description="From the `Link` header of the page before.")] = None,
    ) -> Response[list[TransactionView]]:
        """The wallet's transactions, newest first. `Link: <…>; rel="next"` (RFC 8288) leads to the next page."""
        wallet = await wallet_of(request.user.user_id, wallet_id_in(id))
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


def key_of(caller_id: UUID, header: str | None) -> IdempotencyKey | None:
    """The caller's `Idempotency-Key`, where one was sent."""
    return IdempotencyKey(user_id=caller_id, key=header) if header is not None else None


def _answer(receipt: Receipt) -> Response[TransactionView]:
    return Answer(receipt_view(receipt), status_code=201, headers=REPLAYED if receipt.replayed else ())


def _next_page(request: Request[Any, Any, Any], cursor: str) -> str:
    """The same query with another cursor."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'
