"""Staff who correct, undo and freeze in the admin while all else goes on, and what they were told."""

import asyncio
import re
from decimal import Decimal
from itertools import count
from random import Random
from typing import Literal
from uuid import UUID

import httpx
from msgspec import Struct, field

from actors.refusals import NotReversible, OutcomeUnknown, Overloaded
from app.proof.clients import Crowd
from app.proof.wishes import Holder, Movement, State
from app.staff.logins import create_login

ActKind = Literal["adjust", "reverse", "freeze", "unfreeze"]

_NAME, _PASSWORD = "proof", "a horse that the storm can not shake"
_FORMS: dict[ActKind, str] = {
    "adjust": "adjust-a-balance",
    "reverse": "reverse-a-transaction",
    "freeze": "freeze-a-wallet",
    "unfreeze": "unfreeze-a-wallet",
}
# The admin answers people, in sentences. This one means: come again.
_LATER = Overloaded.title
_ALREADY = f"{NotReversible.title} It has been reversed already."
_ID = re.compile(r"ransaction ([0-9a-f-]{36})\.")
_ADJUSTED = 500_00  # cents, at most
_PAUSE_SECONDS = 0.2
_RECENT = 200


class Act(Struct, kw_only=True):
    """One thing that staff asked for, however often they had to."""

    kind: ActKind
    reference: str
    wallet: Holder
    amount: Decimal = Decimal(0)  # of an adjustment: signed
    transaction_id: UUID | None = None  # of what is to be reversed
    sent: int = 0
    broken: int = 0  # sent, and nobody knows what came of it
    state: State = "unanswered"
    made: UUID | None = None  # the transaction that it became, where money moved
    undone_already: bool = False  # by somebody, or by an earlier attempt at this

    @property
    def fields(self) -> dict[str, str]:
        """The form's fields."""
        reason = {"reason": "a proof of reliability"}
        if self.kind == "reverse":
            return {"transaction_id": str(self.transaction_id)} | reason
        fields = {"wallet_number": self.wallet.number} | reason
        return fields | {"amount": str(self.amount), "reference": self.reference} if self.kind == "adjust" else fields

    @property
    def in_doubt(self) -> bool:
        """Nobody can tell from the outside whether it has happened."""
        return self.state == "unanswered" and self.broken > 0

    @property
    def adjustment(self) -> Movement:
        """What the transaction of an adjustment must say."""
        if self.amount > 0:
            return Movement("DEPOSIT", self.amount, None, self.wallet.wallet_id)
        return Movement("WITHDRAW", -self.amount, self.wallet.wallet_id, None)

    def told(self, status: int, sentence: str) -> None:
        """Note the answer that is not asked for again."""
        self.state = "made" if status == 200 else "refused"
        self.undone_already = sentence == _ALREADY
        if self.state == "made" and self.kind in ("adjust", "reverse"):
            found = _ID.search(sentence)
            assert found, sentence
            self.made = UUID(found[1])


class Office(Struct, kw_only=True):
    """Two operators who share a login, and everything they have asked for."""

    crowd: Crowd
    chance: Random
    http: httpx.AsyncClient  # of their own: it keeps their cookies
    acts: list[Act] = field(default_factory=list)
    frozen: list[Holder] = field(default_factory=list)
    _numbers: count = field(default_factory=count)  # type: ignore[type-arg]

    async def open(self) -> None:
        """Make the login and sign in: sessions are in the database, so each process knows them."""
        await create_login(username=_NAME, email="proof@example.com", password=_PASSWORD, operator=True)
        origin = f"http://127.0.0.1:{self.crowd.ports[0]}"
        page = await self.http.get(f"{origin}/admin/")
        page.raise_for_status()
        answer = await self.http.post(
            f"{origin}/admin/public/login/",
            json={"username": _NAME, "password": _PASSWORD},
            headers={"X-CSRFToken": self.http.cookies["csrftoken"], "Origin": origin},
        )
        answer.raise_for_status()

    async def work(self) -> None:
        """One act after the other, until it is `over` for the crowd."""
        while not self.crowd.over:
            await self.pursue(self._new_act())
            await asyncio.sleep(self.chance.uniform(0, _PAUSE_SECONDS))

    async def pursue(self, act: Act, *, leaves: bool = True) -> None:
        """Ask until it is answered for good, or until it is over for the crowd."""
        while act.state == "unanswered" and not (leaves and self.crowd.over):
            port = self.chance.choice(self.crowd.ports)
            act.sent += 1
            try:
                answer = await self.http.post(
                    f"http://127.0.0.1:{port}/admin/api/forms/{_FORMS[act.kind]}/",
                    json=act.fields,
                    headers={"X-CSRFToken": self.http.cookies["csrftoken"]},
                )
            except httpx.ConnectError:
                pass  # nothing was sent
            except httpx.TransportError:
                act.broken += 1
            else:
                self._hear(act, answer)
            if act.state == "unanswered":
                await asyncio.sleep(_PAUSE_SECONDS)

    def _hear(self, act: Act, answer: httpx.Response) -> None:
        if answer.status_code == 503:  # the session could not be looked up, or the act not be carried out
            act.broken += OutcomeUnknown.detail in answer.text
            return
        said = answer.json() if answer.status_code in (200, 400, 422) else {}
        sentence = said.get("custom_form_success") or said.get("custom_form_error")
        if not sentence:
            self.crowd.unexpected.append(f"staff: {answer.status_code} {answer.text[:300]}")
            act.state = "refused"
        elif not sentence.startswith(_LATER):
            act.told(answer.status_code, sentence)

    def _new_act(self) -> Act:
        number = next(self._numbers)
        act = self._act(f"{self.crowd.prefix}-staff-{number}")
        self.acts.append(act)
        return act

    def _act(self, reference: str) -> Act:
        if self.frozen and self.chance.randrange(2):
            return Act(kind="unfreeze", reference=reference, wallet=self.frozen.pop())
        wallet = self.chance.choice(self.crowd.holders)
        recent = [(wish, id) for wish in self.crowd.wishes[-_RECENT:] for id in wish.made]
        kind = self.chance.choices(("adjust", "reverse", "freeze"), (4, 4 if recent else 0, 2))[0]
        if kind == "freeze":
            self.frozen.append(wallet)
            return Act(kind="freeze", reference=reference, wallet=wallet)
        if kind == "reverse":
            wish, id = self.chance.choice(recent)
            return Act(kind="reverse", reference=reference, wallet=wish.holder, transaction_id=id)
        cents = self.chance.randint(1, _ADJUSTED) * self.chance.choice((1, 1, -1))
        return Act(kind="adjust", reference=reference, wallet=wallet, amount=Decimal(cents) / 100)
