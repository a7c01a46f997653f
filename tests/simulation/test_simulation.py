"""Days of the whole engine under a seeded scheduler: nothing is wrong, and where something were, it would be found."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.run import simulate

_SEEDS = 300
_SEEDS_OF_A_BUG = 600
_DIGESTS = "from tests.simulation.run import simulate; print(*(simulate(seed).digest for seed in range({}, {})))"


@pytest.mark.parametrize("first", range(0, _SEEDS, 50))
def test_nothing_is_wrong_at_the_end_of_any_day(first: int) -> None:
    """A failure names the seed, and how to see it happen."""
    runs = [simulate(seed) for seed in range(first, first + 50)]
    gc.collect()  # tasks whose errors nobody has looked at say so when they go
    bad = [run for run in runs if run.findings]
    assert not bad, "".join(f"\nseed {run.seed}:\n{run.report()}" for run in bad)


def test_a_seed_is_the_same_day_each_time_and_in_any_process() -> None:
    first, end = 1_000, 1_012
    here = [simulate(seed).digest for seed in range(first, end)]
    assert len(set(here)) == len(here), "days differ"
    assert [simulate(seed).digest for seed in range(first, end)] == here
    for hash_seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", _DIGESTS.format(first, end)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == here


@pytest.mark.parametrize("bug", BUGS, ids=[bug.__name__ for bug in BUGS])
def test_a_bug_is_found(bug: Bug) -> None:
    with bug():
        assert any(simulate(seed).findings for seed in range(_SEEDS_OF_A_BUG)), f"{bug.__doc__} Nobody has noticed."
