"""What operators ask of the bank: forms of the admin, each an order with a reason."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid5

from piccolo_admin.endpoints import FormConfig
from pydantic import Field, StringConstraints
from starlette.requests import Request

from actors.bank import Bank
from actors.money import InvalidAmount, amount_from_json
from actors.orders import Adjust, Freeze, IdempotencyKey, Order, Receipt, Reverse, Unfreeze, new_id
from actors.refusals import DatabaseUnavailable, IdempotencyKeyReused, Refusal
from app.staff.forms import Reason, StaffForm, form_config, operator
from db.tables import Wallet

GROUP = "Act on money"
# Keys of staff have a place of their own among the users' keys.
_KEYS = UUID("5e3a1c0e-6f6d-4f0e-9d0b-57a11e700000")


WalletNumber = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64),
    Field(title="Wallet number, ten digits"),
]
Amount = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=20),
    Field(title="Amount in its currency: 12.50 credits, -12.50 debits"),
]
Reference = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    Field(title="Reference, such as a ticket number: money moves once per reference"),
]


class AdjustForm(StaffForm):
    wallet_number: WalletNumber
    amount: Amount
    reference: Reference
    reason: Reason


class FreezeForm(StaffForm):
    wallet_number: WalletNumber
    reason: Reason


class UnfreezeForm(FreezeForm):
    pass


class ReverseForm(StaffForm):
    transaction_id: Annotated[UUID, Field(title="Id of the transaction to reverse")]
    reason: Reason


def money_forms(bank: Bank) -> list[FormConfig]:
    """The forms, each of which puts an order before the bank."""

    async def adjust(request: Request, form: AdjustForm) -> str:
        staff = operator(request)
        receipt = await _perform(
            bank,
            Adjust(
                id=new_id(),
                staff=staff,
                wallet_id=await wallet_id_of(form.wallet_number),
                amount=_signed(form.amount),
                reason=form.reason,
                key=IdempotencyKey(user_id=uuid5(_KEYS, str(staff.id)), key=form.reference),
            ),
        )
        assert receipt.transaction
        again = "It was done before under this reference. " if receipt.replayed else ""
        return f"{again}The balance was then {receipt.balance_after}. Transaction {receipt.transaction.id}."

    async def freeze(request: Request, form: FreezeForm) -> str:
        order = Freeze(
            id=new_id(),
            staff=operator(request),
            wallet_id=await wallet_id_of(form.wallet_number),
            reason=form.reason,
        )
        receipt = await _perform(bank, order)
        return "It was frozen already." if receipt.unchanged else "Frozen: no money moves in or out."

    async def unfreeze(request: Request, form: UnfreezeForm) -> str:
        staff = operator(request)
        wallet_id = await wallet_id_of(form.wallet_number)
        await _refuse_erased(wallet_id)
        order = Unfreeze(id=new_id(), staff=staff, wallet_id=wallet_id, reason=form.reason)
        receipt = await _perform(bank, order)
        return "It was not frozen." if receipt.unchanged else "No longer frozen."

    async def reverse(request: Request, form: ReverseForm) -> str:
        order = Reverse(id=new_id(), staff=operator(request), transaction_id=form.transaction_id, reason=form.reason)
        receipt = await _perform(bank, order)
        assert receipt.transaction
        return f"Reversed by transaction {receipt.transaction.id}."

    return [
        form_config(
            "Adjust a balance",
            AdjustForm,
            adjust,
            "Credit or debit a wallet. The other side is the system wallet `adjustments`.",
            GROUP,
        ),
        form_config(
            "Freeze a wallet", FreezeForm, freeze, "Stop all money in and out until the wallet is unfrozen.", GROUP
        ),
        form_config(
            "Unfreeze a wallet",
            UnfreezeForm,
            unfreeze,
            "End a freeze. A block for an unpaid fee stays.",
            GROUP,
        ),
        form_config(
            "Reverse a transaction",
            ReverseForm,
            reverse,
            "Move the same money back, once, if the receiver still has it.",
            GROUP,
        ),
    ]


async def _perform(bank: Bank, order: Order) -> Receipt:
    try:
        return await bank.perform(order)
    except IdempotencyKeyReused:
        raise ValueError("This reference was used for another wallet or amount. Choose a new one.") from None
    except DatabaseUnavailable:  # the admin's own words for it, and its status
        raise
    except Refusal as refusal:
        raise ValueError(f"{refusal.title} {refusal}") from None


async def wallet_id_of(number: str) -> int:
    """The id of a person's wallet. Raises `ValueError`, with a sentence, where nobody has this number."""
    row = await Wallet.select(Wallet.id).where((Wallet.wallet_number == number) & Wallet.user.is_not_null()).first()
    if row is None:
        raise ValueError("There is no wallet of a person with this number.")
    wallet_id: int = row["id"]
    return wallet_id


async def _refuse_erased(wallet_id: int) -> None:
    erased = await Wallet.exists().where((Wallet.id == wallet_id) & Wallet.user.erased_at.is_not_null())
    if erased:
        raise ValueError("Its owner has been erased: nobody could get at what arrives. It stays frozen.")


def _signed(text: str) -> Decimal:
    try:
        amount = amount_from_json(text.removeprefix("-").removeprefix("+").encode())
    except InvalidAmount:
        message = "Write the amount as 12.50 to credit or -12.50 to debit: two decimals, below 1 000 000 000 000."
        raise ValueError(message) from None
    return -amount if text.startswith("-") else amount
