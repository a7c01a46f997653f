"""A whole day: branches open and end, clients ask and ask again, misfortunes happen, and in the end all is quiet."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

from actors.orders import Bulk, ChargeFee, Reverse
from db.rows import WalletRow
from tests.helpers.prices import rates_at
from tests.simulation.branch import Branch, Gone
from tests.simulation.lock_server import LockServer
from tests.simulation.loop import NumberedTask, Process
from tests.simulation.postgres_server import Database, Session
from tests.simulation.tables import Changes
from tests.simulation.weather import Plan, Weather
from tests.simulation.wishes import Attempt, Outcome, Wish, Wishes
from tests.simulation.world import World, until

_TRIES = 6
_SLACK_SECONDS = 90.0
"""Two attempts of statements that are met with silence, and what halving takes while rows are held outside."""
_RECOVERY_SECONDS = 25.0
"""Statements that were met with silence end after ten, twice over; what their sessions hold two seconds later."""
_CALM_SECONDS = 2.5
"""By then the slowest message has arrived, and whoever heard nothing from the lock server listens to it again."""
_SERVED_WITHIN_SECONDS = 20.0
"""In good weather, with nothing left to recover from."""


class Town:
    """Everything in a simulation that has a name."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.weather = plan.weather
        self.lock_server = LockServer(world)
        self.database = Database(world, self.weather, _wallets(world, plan))
        self.database.on_commit = self._committed
        self.wishes = Wishes(world, self.database, plan)
        self.granted: list[Wish] = []
        self.branches: list[Branch] = []  # those that are alive
        self.all_branches: list[Branch] = []
        self.commits: list[tuple[Process | None, set[int]]] = []  # by whom, and which wallets have changed
        self.commit_of: dict[UUID, int] = {}  # which of them a transaction belongs to
        self.circles = 0  # reservations that waited for each other until a retry
        self._attempt_of: dict[UUID, Attempt] = {}
        self._numbers = count(1)
        known = rates_at(as_of=world.now, valid_until=world.now + timedelta(days=1), KZT="520", EUR="0.86")
        self._rates = known if world.happens(0.9) else None

    def open_branch(self) -> Branch:
        """Start a process."""
        number = len(self.all_branches) + 1
        branch = Branch(self.world, self.database, self.plan, number, self._rates)
        self.branches.append(branch)
        self.all_branches.append(branch)
        return branch

    def close_branch(self, branch: Branch) -> None:
        """It is no more, or soon: nobody sends requests there, and another one is begun."""
        if branch in self.branches:
            self.branches.remove(branch)
            self.open_branch()

    async def live(self) -> None:
        """All clients' wishes."""
        for _ in range(self.plan.processes):
            self.open_branch()
        await self._until_open()
        clients = [asyncio.create_task(self._client()) for _ in range(self.plan.clients)]
        await asyncio.gather(*clients)

    async def _until_open(self) -> None:
        await until(lambda: all(branch.up for branch in self.branches), every_seconds=0.01)

    async def _client(self) -> None:
        for _ in range(self.plan.wishes):
            if self.world.happens(0.7):
                await asyncio.sleep(self.world.between(0.0001, 0.3))
            wish = self.wishes.draw()
            for _ in range(_TRIES):
                await self.ask(wish, self._patience(), fickle=not self.plan.calm)
                if wish.settled:
                    break
                await asyncio.sleep(self.world.between(0.001, 1.0))

    def _patience(self) -> float:
        limits = self.plan.limits
        return (
            _SERVED_WITHIN_SECONDS
            if self.plan.calm
            else (limits.deadline_seconds + limits.patience_seconds + _SLACK_SECONDS)
        )

    async def ask(self, wish: Wish, patience: float, *, fickle: bool = False, branch: Branch | None = None) -> Attempt:
        """One request. A fickle client may leave before it is answered."""
        world, loop = self.world, self.world.loop
        branch = branch or world.chance.choice(self.branches)
        attempt = self.wishes.again(wish, branch)
        if len(wish.attempts) == 1:
            self.granted.append(wish)
        for order in (
            () if isinstance(attempt.asked, ChargeFee | Reverse) else attempt.orders
        ):  # a fee's id is everybody's; a reversal is looked up first
            self._attempt_of.setdefault(order.id, attempt)
        answer: asyncio.Future[Outcome] = loop.create_future()
        branch.waiting[answer] = None
        frozen_before, asked_at = branch.frozen_seconds, loop.time()
        if branch.process.dead or branch.stopped or not branch.up:
            answer.set_exception(Gone())
        else:
            task = loop.spawn(branch.process, self._handle(attempt, answer))
            if fickle and world.happens(0.05):
                world.later(world.between(0.0001, 0.5), self._leave, task, branch)
        while not answer.done():
            await asyncio.wait([answer], timeout=patience)
            thawed = asked_at + patience + branch.frozen_seconds - frozen_before
            if not answer.done() and loop.time() >= thawed:
                world.find(f"no answer in {patience} s from {branch.name}: {_brief(attempt)}")
                answer.cancel()
                return attempt
        branch.waiting.pop(answer, None)
        attempt.outcome = answer.exception() or answer.result()  # type: ignore[assignment]
        world.note("told", _brief(attempt), _words(attempt.outcome))
        return attempt

    def _leave(self, task: NumberedTask, branch: Branch) -> None:
        self.world.loop.call_soon(task.cancel, context=branch.process.context.copy())

    async def _handle(self, attempt: Attempt, answer: "asyncio.Future[Outcome]") -> None:
        """What a request does inside the process."""
        asked, bank = attempt.asked, attempt.branch.bank
        attempt.number, attempt.asked_at = next(self._numbers), self.world.loop.time()
        attempt.commits = len(self.commits)
        self.world.note("asked", _brief(attempt))
        outcome: Outcome
        try:
            outcome = list(await bank.perform_all(asked)) if isinstance(asked, Bulk) else [await bank.perform(asked)]
        except asyncio.CancelledError:
            outcome = Gone()
        except Exception as error:  # noqa: BLE001 - it is what the client is told
            outcome = error
        self.world.later(self.world.between(0.00005, 0.001), _tell, answer, outcome)

    def _committed(self, session: Session, changes: Changes) -> None:
        self.commits.append((session.process, {*changes.wallets}))
        for transaction in changes.transactions:
            self.commit_of[transaction.id] = len(self.commits) - 1
            attempt = self._attempt_of.get(transaction.id)
            if attempt is None or session.begun_at is None or _is_repeated(attempt):
                continue
            late = session.begun_at - attempt.asked_at - self.plan.limits.deadline_seconds
            in_doubt = any(at >= attempt.asked_at for at in attempt.branch.engine.doubts)
            if late > 0.001 and not in_doubt:
                self.world.find(f"carried out {late:.3f} s after its deadline: {_brief(attempt)}")

    async def recover(self) -> None:
        """Fine weather from now on: what was lost stays lost, all else comes back."""
        self.world.note("fine weather")
        for name, value in vars_of(Weather(slow_seconds=0.002)):
            setattr(self.weather, name, value)
        self.lock_server.up = True
        self.lock_server.go_on()
        self.database.up, self.database.silent = True, False
        for branch in self.branches:
            branch.thaw()
        await self._until_open()
        if not self.plan.calm:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECOVERY_SECONDS):
                    await until(self._at_rest, every_seconds=0.2)
                    await asyncio.sleep(_CALM_SECONDS)
                    await until(self._at_rest, every_seconds=0.2)

    def _at_rest(self) -> bool:
        """Nothing is under way between the processes that live and the servers, and the dead hold nothing."""
        database = self.database
        return (
            not database.locks.held
            and not self.lock_server.keys()
            and all(session.begun_at is None for session in database.sessions)
            and all(branch.engine.pool.free == branch.engine.pool.size for branch in self.branches)
            and all(branch.bank._mailboxes.idle and not branch.locks.degraded for branch in self.branches)
        )

    async def settle_all(self) -> None:
        """Whoever is in doubt asks once more, and every wallet is tried through every branch: all are served."""
        asked = [self.ask(wish, _SERVED_WITHIN_SECONDS) for wish in self.granted if not wish.settled]
        await asyncio.gather(*asked)
        for wish in self.granted:
            if wish.key and wish.attempts[-1].may_have_happened and not self.world.findings:
                self.world.find("in fine weather still in doubt:", _brief(wish.attempts[-1]))
        for branch in list(self.branches):
            probes = self.wishes.probes()
            for start in range(0, len(probes), 3):
                part = probes[start : start + 3]
                asked = [self.ask(wish, _SERVED_WITHIN_SECONDS, branch=branch) for wish in part]
                for attempt in await asyncio.gather(*asked):
                    if isinstance(attempt.outcome, Exception):
                        self.world.find("refused in fine weather:", _brief(attempt), _words(attempt.outcome))

    async def close(self) -> None:
        """Everybody stops; the dead are buried."""
        for branch in self.branches:
            branch.stop()
        await asyncio.wait([branch.life for branch in self.branches], timeout=60)
        for branch in self.branches:
            if not branch.life.done():
                self.world.find(f"{branch.name} does not stop")
        dead = [branch for branch in self.all_branches if branch.process.dead]
        for branch in dead:
            self.world.loop.bury(branch.process)
        tasks = [task for branch in self.all_branches for task in branch.process.tasks if not task.done()]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=60)
            for task in left:
                self.world.find("a task that never ends:", task.get_coro())
        for branch in self.all_branches:
            if branch.life.done() and not branch.life.cancelled() and (error := branch.life.exception()):
                self.world.find(f"{branch.name} ended with {error!r}")


def _wallets(world: World, plan: Plan) -> Iterator[WalletRow]:
    chance = world.chance
    for number in range(plan.wallets):
        yield WalletRow(
            id=1001 + number,
            user_id=UUID(int=0xA0 + number // 2),
            number=f"{4_000_000_000 + number}",
            currency=chance.choice(("KZT", "KZT", "KZT", "EUR")),
            amount=Decimal(chance.choice((0, 10_000, 50_000, 1_000_000))) / 100,
            is_active=chance.random() < 0.9,
            fee_due_at=world.now + timedelta(seconds=chance.choice((-86_400 * 70, -60, 0.5, 86_400 * 20))),
        )


def vars_of(weather: Weather) -> Iterator[tuple[str, float]]:
    """Its fields."""
    for name in Weather.__struct_fields__:
        yield name, getattr(weather, name)


def _is_repeated(attempt: Attempt) -> bool:
    """A bulk that comes again makes what had been refused, in time, under the ids of the first request."""
    return isinstance(attempt.asked, Bulk) and len(attempt.wish.attempts) > 1


def _tell(answer: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)


def _brief(attempt: Attempt) -> str:
    asked = attempt.asked
    wallet = getattr(asked, "wallet_id", "")
    key = attempt.wish.key.key if attempt.wish.key else ""
    amount = getattr(asked, "amount", "")
    return f"{type(asked).__name__} {str(asked.id)[-6:]} {wallet} {amount} {key} @{attempt.branch.name}"


def _words(outcome: Outcome | None) -> str:
    if isinstance(outcome, list):
        return ", ".join(_words(each) if isinstance(each, Exception) else "done" for each in outcome)
    return type(outcome).__name__
