"""`…/deposit/`, `…/withdraw/` and `…/transfer/`: what moves money, each an order to the bank."""

from typing import Annotated, ClassVar

from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Raw, Struct

from actors.bank import Bank
from actors.orders import Deposit, Payment, Receipt, Transfer, Withdraw, new_id, transfer_of
from actors.refusals import (
    AmountTooLarge,
    AmountTooSmall,
    BalanceLimit,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    InsufficientFunds,
    Overloaded,
    RatesUnavailable,
    ReceiverUnavailable,
    SameWallet,
    WalletBlocked,
    WalletFrozen,
    WalletNotFound,
)
from app.auth.tokens import SIGNED_OUT, signed_in
from app.http.answers import Answer
from app.http.bodies import amount_field
from app.http.controller import OrderedController
from app.http.fields import PlainText
from app.http.problems import BAD_BODY, problems
from app.limits.requests import LIMITED
from app.payments.handler import Initiator, PaymentHandler
from app.payments.probing import ProbingLimit
from app.payments.views import Reference, TransactionView, receipt_view

REPLAYED = ((b"idempotent-replayed", b"true"),)

_ANY = (
    *(*BAD_BODY, *SIGNED_OUT, WalletNotFound, WalletFrozen, IdempotencyKeyReused),
    *(*LIMITED, Overloaded, DatabaseUnavailable),
)
_SENDING = (InsufficientFunds, WalletBlocked)
_SENT = "The transaction. `balance_after` is your wallet's balance right after it, before any fee."


class DepositOrWithdraw(Struct, frozen=True, kw_only=True):
    """An amount in the wallet's currency."""

    payment_count: ClassVar[int] = 1

    amount: Raw

    def deposit(self, by: Initiator) -> Deposit:
        """The order for the bank. Raises `WalletNotFound`, or `ValidationFailed` for what is no amount."""
        wallet_id, amount = by.wallet_id, amount_field(self.amount)
        return Deposit(id=new_id(), caller_id=by.caller_id, wallet_id=wallet_id, amount=amount, key=by.key)

    def withdraw(self, by: Initiator) -> Withdraw:
        """The order for the bank. Raises `WalletNotFound`, or `ValidationFailed` for what is no amount."""
        wallet_id, amount = by.wallet_id, amount_field(self.amount)
        return Withdraw(id=new_id(), caller_id=by.caller_id, wallet_id=wallet_id, amount=amount, key=by.key)


class TransferBody(Struct, frozen=True, kw_only=True):
    """An amount in the sender's currency, the ten digits of the wallet that receives it, and what both shall read."""

    payment_count: ClassVar[int] = 1

    wallet_number: Annotated[PlainText, Meta(max_length=64, examples=["4000000000"])]
    amount: Raw
    reference: Reference | None = None

    def payment(self) -> Payment:
        """Whom to pay, and how much, as a bulk has it. Raises `ValidationFailed` for what is no amount."""
        return Payment(receiver_number=self.wallet_number, amount=amount_field(self.amount), reference=self.reference)

    def transfer(self, by: Initiator) -> Transfer:
        """The order for the bank. Raises `WalletNotFound`, or `ValidationFailed` for what is no amount."""
        wallet_id, payment = by.wallet_id, self.payment()
        return transfer_of(payment, id=new_id(), caller_id=by.caller_id, wallet_id=wallet_id, key=by.key)


class PaymentsController(OrderedController):
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
        self, data: JSONBody[DepositOrWithdraw], by: NamedDependency[Initiator], bank: NamedDependency[Bank]
    ) -> Answer[TransactionView]:
        """Puts money into one of your wallets. If it is blocked and can now pay its fee, the fee is taken at once."""
        return _answer(await bank.perform(data.deposit(by)))

    @PaymentHandler(
        "/withdraw",
        summary="Withdraw money",
        response_description=_SENT,
        responses=problems(*_ANY, *_SENDING),
    )
    async def withdraw(
        self, data: JSONBody[DepositOrWithdraw], by: NamedDependency[Initiator], bank: NamedDependency[Bank]
    ) -> Answer[TransactionView]:
        """Takes money out of one of your wallets."""
        return _answer(await bank.perform(data.withdraw(by)))

    @PaymentHandler(
        "/transfer",
        summary="Send money",
        response_description=_SENT,
        responses=problems(
            *(*_ANY, *_SENDING, SameWallet, ReceiverUnavailable, AmountTooSmall, AmountTooLarge, RatesUnavailable),
        ),
    )
    async def transfer(
        self,
        data: JSONBody[TransferBody],
        by: NamedDependency[Initiator],
        probing_limit: NamedDependency[ProbingLimit],
    ) -> Answer[TransactionView]:
        """Sends money to any wallet, converted at the current rate if the currencies differ."""
        return _answer(await probing_limit.transfer(data.transfer(by)))


def _answer(receipt: Receipt) -> Answer[TransactionView]:
    return Answer(receipt_view(receipt), status_code=201, headers=REPLAYED if receipt.replayed else ())
