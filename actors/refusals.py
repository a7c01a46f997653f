"""Why something is turned down: each refusal has a status, a stable code and a sentence for people."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import UNSET, Struct, UnsetType


class FieldError(Struct, frozen=True, kw_only=True):
    """What is wrong with one field of a body or one parameter; `code` where a field is an order that was refused."""

    field: str
    message: str
    code: str | UnsetType = UNSET


class Refusal(Exception):
    """
    A request that was understood and is turned down; nothing has changed.

    `headers` go out with the answer; `errors` names each field that is wrong, where it is about fields.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str]
    title: ClassVar[str]
    detail: ClassVar[str | None] = None
    retry_after_seconds: ClassVar[int | None] = None
    headers: Mapping[str, str] = {}
    errors: Sequence[FieldError] = ()

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail or self.title)


class InsufficientFunds(Refusal):
    code = "insufficient_funds"
    title = "The wallet holds too little."
    detail = "The amount is larger than the wallet's balance. Deposit money or send less."


class WalletBlocked(Refusal):
    code = "wallet_blocked"
    title = "The wallet is blocked."
    detail = "A monthly fee could not be paid. The wallet sends again once it has received enough to pay it."


class WalletFrozen(Refusal):
    code = "wallet_frozen"
    title = "The wallet is frozen."
    detail = "No money moves in or out of it until our staff release it. Contact support."


class SameWallet(Refusal):
    code = "same_wallet"
    title = "Sender and receiver are the same wallet."
    detail = "Give the number of another wallet."


class ReceiverUnavailable(Refusal):
    """The receiver's wallet takes no money; which reason it has (a freeze, an erasure) is nothing for a payer."""

    code = "receiver_unavailable"
    title = "The receiving wallet can't take money."
    detail = "Nothing has left your wallet. Ask the receiver for another wallet number."


class BalanceLimit(Refusal):
    code = "balance_limit"
    title = "The wallet would hold too much."
    detail = "A deposit brings a wallet to at most 999 999 999 999.99."


class AmountTooSmall(Refusal):
    code = "amount_too_small"
    title = "The amount is worth less than a cent in the receiver's currency."
    detail = "Send more."


class AmountTooLarge(Refusal):
    code = "amount_too_large"
    title = "The amount is worth too much in the receiver's currency."
    detail = "At most 999 999 999 999.99 can arrive at once. Send less."


class WalletNotFound(Refusal):
    status = 404
    code = "wallet_not_found"
    title = "There is no such wallet."
    detail = "Check the wallet's id or number."


class ReceiverNotFound(WalletNotFound):
    """Nobody has the number that is to be paid."""

    detail = "There is no wallet with this number. Check wallet_number."


class TransactionNotFound(Refusal):
    status = 404
    code = "transaction_not_found"
    title = "There is no such transaction."
    detail = "Check the transaction's id."


class NotReversible(Refusal):
    code = "not_reversible"
    title = "The transaction can't be reversed."


class IdempotencyKeyReused(Refusal):
    status = 422
    code = "idempotency_key_reused"
    title = "This Idempotency-Key was used for something else."
    detail = "Repeat the first request exactly, or choose a new key."


class BulkRefused(Refusal):
    """An atomic bulk of which not everything could happen: `refused` are the places, from 0, and their reasons."""

    code = "bulk_refused"
    title = "Not every transfer could be made, so none was."
    detail = "Correct or leave out the transfers that errors names, or send them without atomic."

    def __init__(self, refused: Sequence[tuple[int, Refusal]] = ()) -> None:
        self.refused = refused
        self.errors = [
            FieldError(field=f"transfers[{place}]", message=str(each), code=each.code) for place, each in refused
        ]
        super().__init__()


class RatesUnavailable(Refusal):
    status = 503
    code = "rates_unavailable"
    title = "There is no current exchange rate."
    detail = "Money can move between wallets of one currency. Try the conversion again later."
    retry_after_seconds = 60


class Overloaded(Refusal):
    status = 503
    code = "overloaded"
    title = "Too much is waiting."
    detail = "Nothing has happened. Try again in a moment."
    retry_after_seconds = 1


class Crowded(Overloaded):
    """It is the whole process, and not one wallet, that has all it can hold."""


class Stopping(Overloaded):
    """This process finishes what it has accepted, and takes nothing new."""

    detail = "The server is stopping. Nothing has happened. Try again in a moment."


class TooLate(Overloaded):
    """The order's deadline has passed while it waited."""

    detail = "The request waited too long and will not be carried out. Nothing has happened. Try again in a moment."


class DatabaseUnavailable(Refusal):
    status = 503
    code = "database_unavailable"
    title = "The database can't serve this now."
    detail = "Nothing has happened. Try again in a moment."
    retry_after_seconds = 1


class Unavailable(Refusal):
    """Another part that is needed; the detail names it."""

    status = 503
    code = "unavailable"
    title = "Something that is needed does not answer."
    detail = "Nothing has happened. Try again in a moment."
    retry_after_seconds = 1


class OutcomeUnknown(DatabaseUnavailable):
    """The connection broke during COMMIT and the database has not come back to say how it ended."""

    detail = (
        "The database connection was lost during the commit, so this may or may not have happened. Repeat the request"
        " with the same Idempotency-Key, or check the wallet's transactions before you try again."
    )
