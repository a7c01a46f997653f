"""What the sender says of a transfer is lost nowhere: from the body to the order, the transaction and what is shown."""

from decimal import Decimal

from msgspec import Raw, Struct
from msgspec.structs import asdict, fields, replace

from actors.orders import Payment
from actors.rules.apply import apply
from app.payments.routes import TransferBody
from app.payments.views import transaction_view
from db.rows import TransactionRow
from tests.unit.books import BOB, book, transfer, wallet


def said(kind: type[Struct]) -> dict[str, str]:
    """A text for each member that may be left out."""
    return {field.name: f"a {field.name}" for field in fields(kind) if not field.required}


def made() -> TransactionRow:
    mine, his = wallet(1001, "100.00"), wallet(1002, owner=BOB)
    transaction = apply(replace(transfer(mine, his, "1.00"), **said(Payment)), book(mine, his)).transaction
    assert transaction
    return transaction


def test_the_order_has_all_of_the_body() -> None:
    body = TransferBody(wallet_number="4000000000", amount=Raw(b"1"), **said(TransferBody))
    payment = asdict(body.payment())
    assert payment == {"receiver_number": "4000000000", "amount": Decimal("1.00")} | said(TransferBody)


def test_the_transaction_has_all_of_the_order() -> None:
    assert said(Payment).items() <= asdict(made()).items()


def test_all_that_the_transaction_has_is_shown() -> None:
    transaction = made()
    row = asdict(transaction)
    shown = asdict(transaction_view(transaction, "4000000000", "4000000001", Decimal("99.00")))
    both = row.keys() & shown.keys()
    assert {name: shown[name] for name in both} == {name: row[name] for name in both}
    assert said(Payment).keys() <= both
