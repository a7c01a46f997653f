"""`python -m tests.simulation --seeds 5000`: many seeds on all cores; `--seed 17 --trace`: one, told as it happens."""

import argparse
import gc
import sys
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from time import perf_counter

from tests.simulation.run import Run, simulate

_CHUNK = 20


def _chunk(seeds: range) -> list[Run]:
    gc.freeze()  # what is imported need not be looked through after each chunk
    runs = [simulate(seed) for seed in seeds]
    gc.collect()
    for run in runs:
        if not run.findings:
            run.last.clear()
    return runs


def main() -> int:
    """1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--trace", action="store_true", help="tell everything as it happens")
    parser.add_argument("--processes", type=int, default=cpu_count())
    asked = parser.parse_args()
    if asked.seed is not None:
        run = simulate(asked.seed, print if asked.trace else None)
        _tell(run, asked.trace)
        return bool(run.findings)
    started = perf_counter()
    bad = requests = steps = done = 0
    with ProcessPoolExecutor(asked.processes) as pool:
        end = asked.first + asked.seeds
        chunks = [range(at, min(at + _CHUNK, end)) for at in range(asked.first, end, _CHUNK)]
        for runs in pool.map(_chunk, chunks):
            for run in runs:
                done, requests, steps = done + 1, requests + run.requests, steps + run.steps
                if run.findings:
                    bad += 1
                    _tell(run, True)
    minutes = (perf_counter() - started) / 60
    print(f"{done} seeds, {requests} requests, {steps} callbacks: {done / minutes:.0f} seeds a minute. Failed: {bad}.")
    return bool(bad)


def _tell(run: Run, told: bool) -> None:
    if run.findings and not told:
        print(*run.last, sep="\n")
    print(
        f"seed {run.seed}: {run.requests} requests in {run.seconds:.1f} s of its own, {run.steps} callbacks, {run.digest}"
    )
    for finding in run.findings:
        print("  FOUND", finding)
    if run.findings:
        print(f"  again: python -m tests.simulation --seed {run.seed} --trace")


if __name__ == "__main__":
    sys.exit(main())
