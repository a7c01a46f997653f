"""What clients want, and what they were told: the record that the ledger is compared with in the end."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from actors.orders import (
    Adjust,
    Bulk,
    ChargeFee,
    Deposit,
    Freeze,
    IdempotencyKey,
    Order,
    Receipt,
    Reverse,
    StaffMember,
    Transfer,
    Unfreeze,
    Withdraw,
    bulk_id,
    place_in,
)
from actors.refusals import DatabaseUnavailable, OutcomeUnknown, Overloaded, Refusal
from tests.simulation.branch import Branch, Gone
from tests.simulation.postgres_server import Database
from tests.simulation.tables import POISON
from tests.simulation.weather import Plan
from tests.simulation.world import World

AYAN = StaffMember(7, "ayan")

Outcome = list[Receipt | Refusal] | Exception


class Attempt(Struct, eq=False):
    """One request: an order or a bulk under ids of its own."""

    wish: "Wish"
    asked: Order | Bulk
    branch: Branch
    number: int = 0  # as they came before the bank
    asked_at: float = 0.0
    commits: int = 0  # there were so many when it was asked
    outcome: Outcome | None = None

    @property
    def orders(self) -> Sequence[Order]:
        return self.asked.transfers if isinstance(self.asked, Bulk) else (self.asked,)

    @property
    def may_have_happened(self) -> bool:
        """Nobody has said whether."""
        return self.outcome is None or isinstance(self.outcome, Gone | OutcomeUnknown)

    @property
    def nothing_happened(self) -> bool:
        """It was put off, and may be asked for again."""
        return isinstance(self.outcome, Overloaded | DatabaseUnavailable) and not self.may_have_happened


class Wish(Struct, eq=False):
    """What is asked for until it is answered: with a key as often as needed, without one as long as that is safe."""

    asked: Order | Bulk
    key: IdempotencyKey | None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """There is an answer, or it can't be asked for again."""
        last = self.attempts[-1]
        return not last.nothing_happened and not (self.key and last.may_have_happened)


class Wishes:
    """Draws what somebody might want."""

    def __init__(self, world: World, database: Database, plan: Plan) -> None:
        self.world = world
        self._database = database
        self._plan = plan
        self._keys = 0

    def id(self) -> UUID:
        """One that nobody has."""
        return UUID(int=self.world.chance.getrandbits(128))

    def draw(self) -> Wish:
        """Anything."""
        chance, tables = self.world.chance, self._database.tables
        ids = list(tables.wallets)
        wallet = tables.wallets[ids[0] if self._plan.rivals or chance.random() < 0.4 else chance.choice(ids)]
        caller = wallet.user_id
        assert caller
        self._keys += 1
        key = IdempotencyKey(user_id=caller, key=f"key {self._keys}") if chance.random() < 0.6 else None
        kind = chance.choices(
            ("deposit", "withdraw", "transfer", "bulk", "fee", "staff", "reverse"), (20, 15, 40, 12, 4, 5, 4)
        )[0]
        amount = self._amount()
        asked: Order | Bulk
        if kind == "deposit":
            asked = Deposit(id=self.id(), caller_id=caller, wallet_id=wallet.id, amount=amount, key=key)
        elif kind == "withdraw":
            asked = Withdraw(id=self.id(), caller_id=caller, wallet_id=wallet.id, amount=amount, key=key)
        elif kind == "bulk":
            asked = self._bulk(wallet.id, caller, key)
        elif kind == "fee":
            key, due_at = None, wallet.fee_due_at
            assert due_at
            asked = ChargeFee(wallet_id=wallet.id, due_at=due_at)
        elif kind == "staff":
            kind_of_order = chance.choice((Adjust, Freeze, Unfreeze, Unfreeze))
            if kind_of_order is Adjust:
                asked = Adjust(id=self.id(), staff=AYAN, wallet_id=wallet.id, amount=amount, reason="", key=key)
            else:
                key = None
                asked = (Freeze if kind_of_order is Freeze else Unfreeze)(
                    id=self.id(), staff=AYAN, wallet_id=wallet.id, reason=""
                )
        elif kind == "reverse" and tables.transactions:
            key, original = None, chance.choice(list(tables.transactions))
            asked = Reverse(id=self.id(), staff=AYAN, transaction_id=original, reason="")
        else:
            asked = self._transfer(self.id(), wallet.id, caller, key, amount)
        return Wish(asked, key)

    def again(self, wish: Wish, branch: Branch) -> Attempt:
        """The same, as another request: under new ids."""
        asked = wish.asked
        if wish.attempts:
            if isinstance(asked, Bulk):
                id = bulk_id(self.id())
                transfers = tuple(replace(each, id=place_in(id, n)) for n, each in enumerate(asked.transfers))
                asked = replace(asked, id=id, transfers=transfers)
            elif not isinstance(asked, ChargeFee):
                asked = replace(asked, id=self.id())
        attempt = Attempt(wish, asked, branch)
        wish.attempts.append(attempt)
        return attempt

    def probes(self) -> list[Wish]:
        """What can't be refused in good weather: a cent for each wallet, which is thawed first."""
        wishes = []
        for wallet in self._database.tables.wallets.values():
            assert wallet.user_id
            deposit = Deposit(id=self.id(), caller_id=wallet.user_id, wallet_id=wallet.id, amount=Decimal("0.01"))
            thaw = Unfreeze(id=self.id(), staff=AYAN, wallet_id=wallet.id, reason="")
            wishes += [Wish(thaw, None), Wish(deposit, None)]
        return wishes

    def _amount(self) -> Decimal:
        chance = self.world.chance
        if chance.random() < 0.03:
            return POISON
        return Decimal(chance.choice((1, 100, 2_500, 10_000, 40_000, chance.randint(1, 99_999)))) / 100

    def _transfer(
        self,
        id: UUID,
        wallet_id: int,
        caller: UUID,
        key: IdempotencyKey | None,
        amount: Decimal,
        replayable: bool = False,
    ) -> Transfer:
        number = "0000000000"
        if self.world.happens(0.96):
            number = self.world.chance.choice([each.number for each in self._database.tables.wallets.values()])
        return Transfer(
            id=id,
            caller_id=caller,
            wallet_id=wallet_id,
            receiver_number=number,
            amount=amount,
            key=key,
            replayable=replayable,
        )

    def _bulk(self, wallet_id: int, caller: UUID, key: IdempotencyKey | None) -> Bulk:
        id = bulk_id(self.id())
        transfers = tuple(
            self._transfer(place_in(id, place), wallet_id, caller, None, self._amount(), replayable=key is not None)
            for place in range(self.world.chance.randint(1, 6))
        )
        atomic = self.world.happens(0.5)
        return Bulk(id=id, caller_id=caller, wallet_id=wallet_id, transfers=transfers, atomic=atomic, key=key)
