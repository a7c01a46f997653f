"""`python -m tests.simulation --seeds 5000`: many seeds on all cores; `--seed 17 --trace`: one, told as it happens."""

import argparse
import gc
import sys
from os import cpu_count

from tests.simulation.many import many
from tests.simulation.run import Run, simulate


def main() -> int:
    """1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--trace", action="store_true", help="tell everything as it happens")
    parser.add_argument("--processes", type=int, default=cpu_count() or 1)
    asked = parser.parse_args()
    if asked.seed is not None:
        run = simulate(asked.seed, print if asked.trace else None)
        gc.collect()  # tasks whose errors nobody has looked at say so when they go
        tell(run, told=asked.trace)
        return bool(run.findings)
    failed = many(range(asked.first, asked.first + asked.seeds), asked.processes, tell)
    return bool(failed)


def tell(run: Run, *, told: bool = True) -> None:
    """What came of one seed, with the last that happened before, unless it was `told` as it happened."""
    if run.findings and not told:
        print(*run.last, sep="\n")
    print(f"seed {run.seed}: {run.requests} requests in {run.seconds:.1f} simulated seconds, {run.steps} callbacks.")
    print(f"  digest {run.digest}")
    print(run.report(), end="")


if __name__ == "__main__":
    sys.exit(main())
