"""Where a benchmark plays: servers, people and the yardstick, and what has been seen so far."""

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path

import click
from msgspec import Struct
from msgspec.structs import replace

from bench.api import Api, Batches, api, batches
from bench.baseline import Baseline
from bench.client import TimedAnswer, percentile
from bench.cpu import microseconds_each, seconds_used
from bench.driver import drive
from bench.load import Load, Run, Shape
from bench.people import movements_recorded, settle_in, write_holders
from bench.proc import largest_mib
from bench.report import Result, complaint
from bench.scratch import Scratch

# Between runs, for what was still under way when the one before ended.
PAUSE_SECONDS = 0.5
# Connections in the warm-up: as many as it takes to see most of the people.
_WARM_UP = 256
_WARM_UP_SECONDS = 6


def in_words(connections: int) -> str:
    """`1 connection`, `2 connections`."""
    return f"{connections} connection{'' if connections == 1 else 's'}"


def processes_in_words(processes: int) -> str:
    """`1 process`, `2 processes`."""
    return f"{processes} process{'' if processes == 1 else 'es'}"


class Case(Struct, frozen=True, kw_only=True):
    """One thing to measure through HTTP. `holders` are who asks, where not everybody does."""

    name: str
    shape: Shape = Shape()
    unit: str = "transfers"
    connections: int
    processes: int
    holders: Path | None = None
    expected: tuple[str, ...] = ()  # statuses that are no error here, besides 200 and 201

    @property
    def payments(self) -> int:
        """How many a 201 tells of."""
        return self.shape.items

    def counted(self, run: Run) -> int:
        """How many of its unit there were."""
        return run.good * self.shape.items

    def errors(self, run: Run) -> int:
        """Answers that should not have been, and requests without one."""
        return run.errors - sum(run.statuses.get(status, 0) for status in self.expected)


class _Measured(Struct, frozen=True, kw_only=True):
    """One run of a case."""

    case: Case
    run: Run
    batch_orders: float | None
    memory_mib: float
    cpu_us: dict[str, float]

    @property
    def per_second(self) -> float:
        return self.case.counted(self.run) / self.run.seconds


class Stage:
    """What a benchmark has while it runs. It calls `settle`, then `measure` as often as it likes."""

    def __init__(self, place: Scratch, *, seconds: int, runs: int) -> None:
        self.place = place
        self.seconds = seconds
        self.runs = runs
        self.secret = secrets.token_hex(32)
        self.wallets = 0
        self.baseline: list[tuple[float, ...]] = []
        self.results: list[Result] = []
        self.notes: list[str] = []
        self.errors: list[str] = []
        self.answered = 0
        self.recorded = 0
        self.holders = place.folder / "holders.tsv"
        self._pgbench = Baseline(place.database_url)
        self._parts: dict[str, int] = {}
        self._counted = Batches()

    def prepare(self) -> None:
        """Make the baseline's tables."""
        asyncio.run(self._pgbench.prepare())

    def settle(self, wallets: int) -> None:
        """Load so many more people with a wallet each."""
        started_at = time.monotonic()
        asyncio.run(settle_in(wallets))
        self.know_everybody()
        click.echo(f"{self.wallets} wallets, made in {time.monotonic() - started_at:.1f} s.")

    def know_everybody(self) -> None:
        """Let all wallets that there are now take part."""
        self.wallets = write_holders(self.holders, self.secret)

    @contextmanager
    def beside_baseline(self) -> Iterator[None]:
        """Take the baseline before and after the block, which is the yardstick of the results found inside."""
        first = len(self.results)
        before = self._tpcb()
        yield
        after = self._tpcb()
        self.baseline.append((before, after))
        mean = statistics.mean((before, after))
        for at, result in enumerate(self.results[first:], first):
            self.results[at] = replace(result, baseline=round(mean, 1), ratio=round(result.per_second / mean, 3))

    def measure(self, cases: Sequence[Case]) -> None:
        """All cases, those that follow each other with the same number of processes on one API."""
        for processes, group in groupby(cases, key=lambda case: case.processes):
            self._measure(list(group), processes)

    @contextmanager
    def accounting(self) -> Iterator[list[tuple[Case, Run]]]:
        """Let all that is driven at API processes that end with the block be noted in the list, and account for it."""
        driven: list[tuple[Case, Run]] = []
        recorded = -asyncio.run(movements_recorded())
        yield driven
        recorded += asyncio.run(movements_recorded())
        answered = sum(run.created * case.payments for case, run in driven)
        self.answered += answered
        self.recorded += recorded
        errors = [complaint(case.name, run) for case, run in driven if case.errors(run)]
        # More may be recorded: what was under way when a run ended was carried out, but nobody waited for the answer;
        # and where the database was lost nobody could give one.
        unknown = sum(case.connections * case.payments * (1 + bool(case.expected)) for case, _ in driven)
        if not answered <= recorded <= answered + unknown:
            errors.append(f"{answered} payments were answered with 201, but {recorded} are in the ledger")
        if errors:
            said = "".join(log.read_text(errors="replace") for log in sorted(self.place.folder.glob("api*.log")))
            errors.append(f"the API's log: {_first_trouble(said)}")
        self.errors += errors

    def drive(self, case: Case, served: Api, *, seconds: int | None = None) -> Run:
        """One run of a case, as long as all are or so many seconds."""
        return drive(self.load(case, served, seconds=seconds or self.seconds))

    def load(self, case: Case, served: Api, *, seconds: int) -> Load:
        """The requests of a run, and where they go."""
        return Load(
            host=served.host,
            port=served.port,
            holders=case.holders or self.holders,
            connections=case.connections,
            seconds=seconds,
            shape=case.shape,
        )

    def result_of_answers(
        self,
        name: str,
        case: Case,
        phases: Sequence[tuple[list[TimedAnswer], float]],
        *,
        unit: str = "answers",
        memory: float = 0.0,
    ) -> Result:
        """The answers of all runs of a phase together, and how many there were in a second; each with its seconds."""
        took = sorted(answer.seconds for answers, _ in phases for answer in answers) or [0.0]
        rates = sorted(len(answers) / seconds for answers, seconds in phases)
        p50, p90, p99 = (round(percentile(took, part) * 1000, 3) for part in (0.5, 0.9, 0.99))
        return Result(
            case=name,
            unit=unit,
            wallets=self.wallets,
            processes=case.processes,
            connections=case.connections,
            per_second=round(rates[(len(rates) - 1) // 2], 1),
            runs=[round(rate, 1) for rate in rates],
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            memory_mib=round(memory, 1),
        )

    def _measure(self, cases: list[Case], processes: int) -> None:
        measured: list[_Measured] = []
        with self.accounting() as driven, api(self.place, processes=processes, secret=self.secret) as served:
            for one in self._runs(served, cases):
                measured.append(one)
                driven.append((one.case, one.run))
        taken = self.baseline[-1]
        around = [statistics.mean(pair) for pair in pairwise(taken)]  # each round
        self.results += [self._result(case, measured[1:], around, statistics.mean(taken)) for case in cases]

    def _runs(self, served: Api, cases: list[Case]) -> Iterator[_Measured]:
        """
        A warm-up first, in which processes meet tokens and wallet numbers as they would in minutes; then the runs.

        Cases take turns, so that a machine that slows down or a table that grows meets all alike; and the baseline is
        taken before each round and after the last, since such a machine slows it down as well.
        """
        self._parts = {"API": served.pid, **self.place.server_pids, "load": os.getpid()}
        self._counted = batches(served)
        warm_up = Case(name=in_words(_WARM_UP), connections=_WARM_UP, processes=cases[0].processes)
        yield self._run(served, warm_up, seconds=_WARM_UP_SECONDS, kind="warm-up: ")
        taken = [self._tpcb()]
        for _ in range(self.runs):
            for case in cases:
                yield self._run(served, case, seconds=self.seconds)
            taken.append(self._tpcb())
        self.baseline.append(tuple(taken))

    def _run(self, served: Api, case: Case, *, seconds: int, kind: str = "") -> _Measured:
        cpu, counted = seconds_used(self._parts), self._counted
        run = self.drive(case, served, seconds=seconds)
        time.sleep(PAUSE_SECONDS)
        self._counted = batches(served)
        one = _Measured(
            case=case,
            run=run,
            batch_orders=self._counted.orders_each(counted),
            memory_mib=largest_mib(served.pid),
            cpu_us=microseconds_each(cpu, seconds_used(self._parts), case.counted(run)),
        )
        click.echo(f"{kind}{case.name}: {one.per_second:.0f} {case.unit}/s")
        return one

    def _result(self, case: Case, measured: list[_Measured], around: list[float], baseline: float) -> Result:
        """
        The median run stands for its case, the lower one of two; and so does the median of their ratios.

        `around` is the baseline of each round, `baseline` that of all.
        """
        in_turn = [one for one in measured if one.case is case]
        ratios = [one.per_second / beside for one, beside in zip(in_turn, around, strict=True)]
        runs = sorted(in_turn, key=lambda one: one.per_second)
        median = runs[(len(runs) - 1) // 2]
        return Result(
            case=case.name,
            unit=case.unit,
            wallets=self.wallets,
            processes=case.processes,
            connections=case.connections,
            per_second=round(median.per_second, 1),
            runs=[round(one.per_second, 1) for one in runs],
            ratio=round(statistics.median_low(ratios), 3),
            baseline=round(baseline, 1),
            p50_ms=median.run.p50_ms,
            p90_ms=median.run.p90_ms,
            p99_ms=median.run.p99_ms,
            batch_orders=median.batch_orders,
            memory_mib=round(max(one.memory_mib for one in runs), 1),
            cpu_us=median.cpu_us,
        )

    def _tpcb(self) -> float:
        rate = round(asyncio.run(self._pgbench.transactions_per_second((self.seconds + 1) // 2)), 1)
        click.echo(f"{self._pgbench.description}: {rate:.0f}/s")
        return rate


def _first_trouble(log: str) -> str:
    """The beginning of the first line of a log of JSON that tells of an error; the log's end where there is none."""
    return next((line[:1000] for line in log.splitlines() if '"level":"error"' in line), log.strip()[-1000:])
