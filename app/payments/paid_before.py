"""Which wallet numbers a person has paid before, for the few of whom that is asked."""

import asyncio
import re
from collections.abc import Iterable
from time import monotonic
from uuid import UUID

from actors.refusals import Overloaded
from db.tables import Wallet

# So many movements of a wallet are looked through at once: tens of milliseconds.
MOVEMENTS_AT_ONCE = 10_000
# So many numbers are remembered of so many people together, about 50 MB.
NUMBERS_MAX = 500_000
PEOPLE_MAX = 1_000

_NUMBER = re.compile(r"[0-9]{10}")

# Nothing in it depends on the number that is asked about: its time tells nobody whether there is such a wallet. The
# entries of one wallet are written one after another, so none with a smaller id appears later.
_PAID = """
WITH movements AS (
    SELECT "id", "transaction" FROM "entry" WHERE "wallet" = {} AND "id" > {} ORDER BY "id" LIMIT {}
)
SELECT max(movements."id") AS "last", count(*) AS "count", array_agg(DISTINCT receiver."wallet_number")
    FILTER (WHERE receiver."wallet_number" IS NOT NULL) AS "numbers"
FROM movements JOIN "transaction" t ON t."id" = movements."transaction"
LEFT JOIN "wallet" receiver ON receiver."id" = t."receiver" AND t."sender" = {}
"""


class _Payees:
    """Whom a person has paid, as far as their movements have been read."""

    __slots__ = ("numbers", "read_to", "reading")

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.read_to: dict[int, int] = {}  # entries by wallet
        self.reading = asyncio.Lock()


class PaidBefore:
    """
    Reads a person's movements when it is first asked about them, and after that only what has come since.

    An index of senders and receivers would answer at once, and cost every payment.
    """

    def __init__(self, numbers_max: int = NUMBERS_MAX) -> None:
        self._numbers_max = numbers_max
        self._people: dict[UUID, _Payees] = {}  # whom nobody has asked about for longest first

    async def among(self, user_id: UUID, numbers: Iterable[str], *, seconds: float) -> set[str]:
        """
        Those of these numbers that are the person's own, or that the person has paid.

        Raises:
            Overloaded: there are more movements to be read than that takes. What was read is kept.
        """
        payees = self._people.pop(user_id, None) or _Payees()
        self._people[user_id] = payees
        asked = {number: int(number) for number in numbers if _NUMBER.fullmatch(number)}
        if not payees.numbers.issuperset(asked.values()):
            ends_at = monotonic() + seconds
            async with payees.reading:
                await self._read(user_id, payees, ends_at)
            self._forget()
        return {number for number, digits in asked.items() if digits in payees.numbers}

    async def _read(self, user_id: UUID, payees: _Payees, ends_at: float) -> None:
        for wallet in await Wallet.select(Wallet.id, Wallet.wallet_number).where(Wallet.user == user_id):
            id, more = wallet["id"], True
            payees.numbers.add(int(wallet["wallet_number"]))
            while more:
                (row,) = await Wallet.raw(_PAID, id, payees.read_to.get(id, 0), MOVEMENTS_AT_ONCE, id)
                payees.numbers.update(map(int, row["numbers"] or ()))
                payees.read_to[id] = row["last"] or payees.read_to.get(id, 0)
                more = row["count"] == MOVEMENTS_AT_ONCE
                if more and monotonic() > ends_at:
                    raise Overloaded()

    def _forget(self) -> None:
        held = sum(len(payees.numbers) for payees in self._people.values())
        while len(self._people) > 1 and (held > self._numbers_max or len(self._people) > PEOPLE_MAX):
            held -= len(self._people.pop(next(iter(self._people))).numbers)
