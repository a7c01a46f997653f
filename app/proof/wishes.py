"""What a client has asked for and what it was told: the records that everything is judged by in the end."""

from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

Kind = Literal["deposit", "withdraw", "transfer"]
State = Literal["unanswered", "made", "refused"]


class Holder(Struct, frozen=True, kw_only=True):
    """A wallet, and what lets its owner act on it."""

    wallet_id: int
    number: str
    currency: str
    user_id: UUID
    token: str


class Wish(Struct, kw_only=True):
    """One payment under one idempotency key, however often it had to be sent."""

    kind: Kind
    key: str
    holder: Holder
    amount: Decimal
    receiver: Holder | None = None
    sent: int = 0
    broken: int = 0  # sent, and no answer came
    put_off: int = 0  # answered 503: come back later
    state: State = "unanswered"
    transaction_id: UUID | None = None
    code: str = ""  # of the refusal

    @property
    def path(self) -> str:
        """Where it is posted."""
        return f"/users/wallets/{self.holder.wallet_id}/{self.kind}/"

    @property
    def body(self) -> dict[str, str]:
        """What is posted."""
        body = {"amount": str(self.amount)}
        return body | {"wallet_number": self.receiver.number} if self.receiver else body

    @property
    def in_doubt(self) -> bool:
        """Nobody can tell from the outside whether it has happened."""
        return self.state == "unanswered" and self.broken > 0

    def told(self, status: int, body: dict[str, Any]) -> None:
        """Note a final answer."""
        if status == 201:
            self.state, self.transaction_id = "made", UUID(body["id"])
        else:
            self.state, self.code = "refused", str(body.get("code", status))
