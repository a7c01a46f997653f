"""What a client has asked for and what it was told: the records that everything is judged by in the end."""

from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct, field

Kind = Literal["deposit", "withdraw", "transfer", "bulk"]
State = Literal["unanswered", "made", "refused"]


class Holder(Struct, frozen=True, kw_only=True):
    """A wallet, and what lets its owner act on it."""

    wallet_id: int
    number: str
    currency: str
    user_id: UUID
    token: str


class Movement(Struct, frozen=True):
    """What a transaction of the ledger says, or what somebody was told that one says."""

    operation_type: str
    amount: Decimal
    sender_id: int | None
    receiver_id: int | None


class Ask(Struct, frozen=True, kw_only=True):
    """One movement of money that is asked for."""

    amount: Decimal
    receiver: Holder | None = None

    @property
    def body(self) -> dict[str, str]:
        """Its JSON in a request."""
        body = {"amount": str(self.amount)}
        return body | {"wallet_number": self.receiver.number} if self.receiver else body


class Wish(Struct, kw_only=True):
    """One request under one idempotency key, however often it had to be sent. Only a bulk asks for many payments."""

    kind: Kind
    key: str
    holder: Holder
    asks: list[Ask]
    sent: int = 0
    broken: int = 0  # sent, and no answer came, or one that does not know
    put_off: int = 0  # answered 503: come back later
    state: State = "unanswered"
    made: dict[UUID, Ask] = field(default_factory=dict)  # by the transaction that it became
    codes: list[str] = field(default_factory=list)  # of the refusals

    @property
    def path(self) -> str:
        """The request's path."""
        return f"/users/wallets/{self.holder.wallet_id}/{'transfers' if self.kind == 'bulk' else self.kind}/"

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON."""
        if self.kind == "bulk":
            return {"transfers": [ask.body for ask in self.asks]}
        return self.asks[0].body

    @property
    def in_doubt(self) -> bool:
        """Nobody can tell from the outside whether it has happened."""
        return self.state == "unanswered" and self.broken > 0

    def told(self, status: int, body: dict[str, Any]) -> None:
        """Note the answer that is not asked for again."""
        if self.kind == "bulk" and status in (201, 207):
            answers = [(item["status"], item.get("transaction") or item["problem"]) for item in body["transfers"]]
        else:
            answers = [(status, body)]
        for (outcome, said), ask in zip(answers, self.asks, strict=False):
            if outcome == 201:
                self.made[UUID(said["id"])] = ask
            else:
                self.codes.append(str(said.get("code", outcome)))
        self.state = "made" if self.made else "refused"

    def movement(self, ask: Ask) -> Movement:
        """What the transaction must say if it was made."""
        mine = self.holder.wallet_id
        if self.kind == "deposit":
            return Movement("DEPOSIT", ask.amount, None, mine)
        if self.kind == "withdraw":
            return Movement("WITHDRAW", ask.amount, mine, None)
        assert ask.receiver
        return Movement("TRANSFER", ask.amount, mine, ask.receiver.wallet_id)
