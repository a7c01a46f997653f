"""Clients as they should be: a key for each payment, the same request again where no answer came, never a new one."""

import asyncio
from decimal import Decimal
from itertools import count
from random import Random
from time import monotonic

import httpx
from msgspec import Struct, field

from actors.refusals import OutcomeUnknown
from app.proof.wishes import Ask, Holder, Kind, Wish

# A client gives up on an answer after this, and asks again: longer than an order may wait. Whoever asks again earlier,
# and of another process, may be refused there what the first process carries out a moment later.
PATIENCE_SECONDS = 13.0
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
# So many of a hundred clients whose connection broke leave, and come back when all is over.
_LEAVE_OF_100 = 10
_BULK = 20
# In cents. More is paid in than goes out, so that most of what is asked for can be done.
_DEPOSIT, _REST = 20_000_00, 2_000_00
_SHARES: dict[Kind, int] = {"deposit": 2, "withdraw": 1, "transfer": 6, "bulk": 1}


class Crowd(Struct, kw_only=True):
    """Everybody who asks, what they asked for, and when they were last served."""

    ports: list[int]
    holders: list[Holder]
    chance: Random
    prefix: str
    wishes: list[Wish] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    over: bool = False
    served: list[tuple[float, float, int]] = field(default_factory=list)  # sent and answered when, by which port
    _numbers: count = field(default_factory=count)  # type: ignore[type-arg]

    def new_wish(self, *, of: Holder | None = None, kind: Kind | None = None) -> Wish:
        """A payment that nobody has asked for yet; a third of them meet one of three hot wallets."""
        holder = of or self._somebody()
        chosen = self.chance.choices(list(_SHARES), list(_SHARES.values()))[0] if kind is None else kind
        wish = Wish(
            kind=chosen,
            key=f"{self.prefix}-{next(self._numbers)}",
            holder=holder,
            asks=[self._ask(chosen, holder) for _ in range(_BULK if chosen == "bulk" else 1)],
        )
        self.wishes.append(wish)
        return wish

    async def live(self, http: httpx.AsyncClient) -> None:
        """One client: a wish after the other until it is `over`."""
        while not self.over:
            await self.pursue(http, self.new_wish())

    async def pursue(self, http: httpx.AsyncClient, wish: Wish, *, leaves: bool = True) -> None:
        """Send it until it is answered for good; one in ten leaves where the connection breaks."""
        while wish.state == "unanswered":
            port = self.chance.choice(self.ports)
            wish.sent += 1
            sent_at = monotonic()
            try:
                answer = await http.post(
                    f"http://127.0.0.1:{port}{wish.path}",
                    json=wish.body,
                    headers={"Authorization": f"Bearer {wish.holder.token}", "Idempotency-Key": wish.key},
                )
            except httpx.ConnectError:
                pass  # nothing was sent
            except httpx.TransportError:
                wish.broken += 1
                if leaves and (self.over or self.chance.randrange(100) < _LEAVE_OF_100):
                    return
            else:
                if answer.status_code == 503:
                    wish.put_off += 1
                    wish.broken += answer.json()["detail"] == OutcomeUnknown.detail
                else:
                    if answer.status_code >= 500 or answer.status_code in (401, 429):
                        self.unexpected.append(f"{answer.status_code} {answer.text[:300]}")
                    wish.told(answer.status_code, answer.json())
                    self.served.append((sent_at, monotonic(), port))
                    return
            if leaves and self.over:
                return
            await asyncio.sleep(_PAUSES[min(wish.sent, len(_PAUSES)) - 1])

    def _ask(self, kind: Kind, holder: Holder) -> Ask:
        amount = Decimal(self.chance.randint(1, _DEPOSIT if kind == "deposit" else _REST)) / 100
        if kind in ("deposit", "withdraw"):
            return Ask(amount=amount)
        receiver = holder
        while receiver is holder:
            receiver = self._somebody()
        return Ask(amount=amount, receiver=receiver)

    def _somebody(self) -> Holder:
        if self.chance.randrange(3) == 0:
            return self.chance.choice(self.holders[:3])
        return self.chance.choice(self.holders)


def connections() -> httpx.AsyncClient:
    """For the whole crowd."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits, trust_env=False)
