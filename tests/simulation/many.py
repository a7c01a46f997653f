"""Many seeds on several cores, with a word on how it goes every few seconds."""

import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter

from tests.simulation.run import Run, simulate

_CHUNK = 20
_TELL_SECONDS = 5.0


def many(seeds: range, processes: int, tell: Callable[[Run], None]) -> int:
    """Run them all; `tell` hears of those that failed. Returns how many that are."""
    started = told = perf_counter()
    failed = requests = steps = done = circles = 0
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for runs in pool.map(_chunk, chunks):
            for run in runs:
                done += 1
                requests += run.requests
                steps += run.steps
                circles += run.circles
                if run.findings:
                    failed += 1
                    tell(run)
            now = perf_counter()
            if now - told > _TELL_SECONDS or done == len(seeds):
                told = now
                print(
                    f"{done} of {len(seeds)} seeds, {requests} requests, {steps} callbacks, {circles} circles,"
                    f" {done / (now - started) * 60:.0f} seeds a minute. Failed: {failed}.",
                    flush=True,
                )
    return failed


def _chunk(seeds: range) -> list[Run]:
    gc.freeze()  # what is imported need not be looked through after each chunk
    runs = [simulate(seed) for seed in seeds]
    gc.unfreeze()
    gc.collect()
    return runs
