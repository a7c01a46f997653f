"""One seed, from the first request to the verdict."""

import asyncio
import gc
from collections.abc import Callable

from msgspec import Struct

from tests.simulation.circles import dissolve_circles
from tests.simulation.loop import Dry, Endless
from tests.simulation.misfortunes import misfortunes
from tests.simulation.town import Town
from tests.simulation.verdict import verdict
from tests.simulation.weather import plan
from tests.simulation.wiring import wired
from tests.simulation.world import World

_LIFE_SECONDS = 3_600.0


class Run(Struct):
    """What came of a seed. Equal digests: exactly the same has happened."""

    seed: int
    calm: bool
    findings: list[str]
    digest: str
    steps: int
    requests: int
    circles: int
    seconds: float  # of virtual time
    last: list[str]  # what happened before the end, where something was found

    def report(self) -> str:
        """What was found, and how to see it again; nothing where there is nothing."""
        if not self.findings:
            return ""
        found = "".join(f"  FOUND {finding}\n" for finding in self.findings)
        return f"{found}  again: python -m tests.simulation --seed {self.seed} --trace\n"


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> Run:
    """Live through a seed; `tell` hears of everything as it happens."""
    world = World(seed, tell)
    day = plan(world)
    town = Town(world, day)
    world.loop.set_exception_handler(lambda _, told: world.find("unhandled:", told["message"], told.get("exception")))
    world.note(day)
    collects = gc.isenabled()
    gc.disable()  # when it happens would depend on what ran before, and it may end tasks
    try:
        with wired(world, town.lock_server, day.weather):
            try:
                main = world.loop.spawn(world.loop.outside, _day(town))
                world.loop.run_until_complete(main)
            except Dry:
                world.find("nothing happens any more, and somebody waits")
            except Endless:
                world.find("it comes to no end")
            except TimeoutError:
                world.find("an hour has passed, and somebody waits")
            requests = sum(len(wish.attempts) for wish in town.granted)
            for process in world.loop.processes:
                for task in process.tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
            run = Run(
                seed=seed,
                calm=day.calm,
                findings=world.findings,
                digest=world.digest,
                steps=world.loop.steps,
                requests=requests,
                circles=town.circles,
                seconds=world.loop.time(),
                last=list(world.last) if world.findings else [],
            )
            if not world.findings:
                world.loop.close()
    finally:
        if collects:
            gc.enable()
    return run


async def _day(town: Town) -> None:
    async with asyncio.timeout(_LIFE_SECONDS):
        if town.plan.calm:
            besides = asyncio.create_task(dissolve_circles(town))
            await town.live()
        else:
            besides = asyncio.create_task(misfortunes(town))
            await town.live()
            await _end(besides)
        await town.recover()
        await town.settle_all()
        await asyncio.sleep(0.3)  # what is sent in the background arrives; reservations end
        await _end(besides)
        for finding in verdict(town):
            town.world.find(finding)
        await town.close()


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()):
        raise error
