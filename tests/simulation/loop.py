"""
An event loop without a clock and without I/O: several processes in one, and a seed decides which of them goes on.

Inside a process callbacks run in asyncio's order: first come, first served, and what has arrived from outside or is due
joins between two rounds. Shuffling them would make orders that asyncio never has. What is not ordered in the real world
is: which process goes on next, and when an answer comes. Both are drawn.

Which process a callback belongs to is told by its context, which tasks and timers inherit from whoever makes them.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

_TICK_SECONDS = 0.000_005
"""What a callback takes: time moves on even where nobody waits."""


class Dry(Exception):
    """Nothing is left that could ever happen, and somebody waits all the same."""


class Endless(Exception):
    """So much has happened that it will never come to an end."""


class Process:
    """What one process of an operating system has to do next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[events.Handle] = deque()
        self.arrived: list[events.Handle] = []  # from other processes, and timers that are due
        self.round = 0  # callbacks left until arrivals are looked at
        self.frozen = False
        self.dead = False
        self.tasks: list[NumberedTask] = []
        self.context = Context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process] = ContextVar("process")


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set is the same at each run: asyncio and our code go through sets of tasks."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what processes have to do; where nobody has anything, time jumps to the next timer."""

    _stopping: bool  # asyncio's own, set by `stop`

    def __init__(self, chance: Random, *, steps_max: int) -> None:
        super().__init__()
        self.chance = chance
        self.steps = 0
        self.steps_max = steps_max
        self.outside = Process("outside")  # servers, clients, fate
        self.processes = [self.outside]
        self._now = 0.0
        self._current: Process | None = None
        self._timers: list[tuple[float, int, events.TimerHandle, Process]] = []
        self._numbers = count(1)

    def time(self) -> float:
        return self._now

    def process(self, name: str) -> Process:
        """A new process with nothing to do yet."""
        process = Process(name)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """It does nothing any more. What it would do next is kept: Python runs a task's `finally` on forgetting it."""
        process.dead = process.frozen = True

    def bury(self, process: Process) -> None:
        """Let a killed process's tasks come to their ends, when nobody can hear of it any more."""
        process.frozen = False
        for task in process.tasks:
            self.call_soon(task.cancel, context=process.context.copy())

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> NumberedTask:
        """Begin work in a process."""
        return self.create_task(work, context=process.context.copy())

    # From here on: what asyncio asks of a loop.

    def create_task(  # type: ignore[override]  # newer versions of Python have more arguments
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> NumberedTask:
        if context is None:
            context = copy_context()
        process = context.get(PROCESS)
        if process is None:  # a fresh context: whoever begins it is where it belongs
            process = self._current or self.outside
            context.run(PROCESS.set, process)
        task = NumberedTask(coro, loop=self, name=name, context=context)
        # asyncio keeps every task in one set for all loops. Nobody asks for it here, and tasks of the same number, of
        # this seed and of those before it, would stand in each other's way there.
        asyncio._unregister_task(task)
        task.number = next(self._numbers)
        process.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        process: Process = handle._context.get(PROCESS, self.outside)  # type: ignore[attr-defined]
        if process is self._current:
            process.ready.append(handle)
        else:
            process.arrived.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        timer = events.TimerHandle(when, callback, args, self, context)
        process: Process = timer._context.get(PROCESS, self.outside)  # type: ignore[attr-defined]
        heappush(self._timers, (when, next(self._numbers), timer, process))
        return timer

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _run_once(self) -> None:
        """All that happens until somebody stops the loop."""
        timers, processes, random = self._timers, self.processes, self.chance.random
        while not self._stopping:
            while timers and timers[0][0] <= self._now:
                _, _, timer, process = heappop(timers)
                if not timer.cancelled():
                    process.arrived.append(timer)
            able = [each for each in processes if (each.ready or each.arrived) and not each.frozen]
            if able:
                self._step(able[int(random() * len(able))] if len(able) > 1 else able[0])
            elif timers:
                self._now = max(self._now, timers[0][0])
            else:
                raise Dry

    def _step(self, process: Process) -> None:
        """One callback."""
        ready = process.ready
        if not process.round:
            ready.extend(process.arrived)
            process.arrived.clear()
            process.round = len(ready)
        handle = ready.popleft()
        process.round -= 1
        if handle.cancelled():
            return
        self.steps += 1
        if self.steps > self.steps_max:
            raise Endless
        self._now += _TICK_SECONDS
        self._current = process
        handle._run()
        self._current = None
