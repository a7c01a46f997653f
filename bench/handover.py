"""One wallet between two separate API processes, which have to take turns at it: `python -m bench.handover`."""

import time
from concurrent.futures import ThreadPoolExecutor

import click

from bench.api import Api, api
from bench.command import benchmark, connections_option, wallets_option
from bench.load import Run, Shape
from bench.proc import largest_mib
from bench.report import Result
from bench.stage import PAUSE_SECONDS, Case, Stage, in_words


@benchmark
@connections_option(1, 32)
@wallets_option(10_000)
def handover(stage: Stage, connections: tuple[int, ...], wallets: int) -> None:
    """One wallet that sends through one API process, and through two at once: what each gets of it."""
    stage.settle(wallets)
    cases = [
        Case(name=f"{in_words(number)} each", shape=Shape(senders=1), connections=number, processes=1)
        for number in connections
    ]
    with (
        stage.beside_baseline(),
        stage.accounting() as driven,
        api(stage.place, processes=1, secret=stage.secret) as first,
        api(stage.place, processes=1, secret=stage.secret, name="API-2") as second,
    ):
        for each in (first, second):
            driven.append((cases[-1], stage.drive(cases[-1], each)))  # warms up
        for case in cases:
            for serving in ({"alone": first}, {"first of two": first, "second of two": second}):
                found = [_at_once(stage, case, list(serving.values())) for _ in range(stage.runs)]
                driven += [(case, run) for runs in found for run in runs]
                _tell(stage, case, serving, found)


def _at_once(stage: Stage, case: Case, serving: list[Api]) -> list[Run]:
    """The same load on each of them at the same time."""
    with ThreadPoolExecutor(len(serving)) as threads:
        runs = list(threads.map(lambda served: stage.drive(case, served), serving))
    time.sleep(PAUSE_SECONDS)
    return runs


def _tell(stage: Stage, case: Case, serving: dict[str, Api], found: list[list[Run]]) -> None:
    """The run with the median of what all processes did together stands for the case."""

    def rate(run: Run) -> float:
        return case.counted(run) / run.seconds

    found.sort(key=lambda runs: sum(map(rate, runs)))
    median = found[(len(found) - 1) // 2]
    for nth, (name, served) in enumerate(serving.items()):
        run = median[nth]
        stage.results.append(
            Result(
                case=f"{name}, {case.name}",
                unit=case.unit,
                wallets=stage.wallets,
                processes=len(serving),
                connections=case.connections,
                per_second=round(rate(run), 1),
                runs=sorted(round(rate(runs[nth]), 1) for runs in found),
                p50_ms=run.p50_ms,
                p90_ms=run.p90_ms,
                p99_ms=run.p99_ms,
                memory_mib=round(largest_mib(served.pid), 1),
            )
        )
        click.echo(f"{name}, {case.name}: {rate(run):.0f} {case.unit}/s, the slowest {run.max_ms:.0f} ms")
    if len(serving) > 1:
        least = min(min(map(rate, runs)) / max(sum(map(rate, runs)), 1) for runs in found)
        slowest = max(run.max_ms for runs in found for run in runs)
        stage.notes.append(
            f"Two processes, {case.name}: in every run each process made at least {least:.0%} of the transfers, and no"
            f" transfer took longer than {slowest:.0f} ms."
        )


if __name__ == "__main__":
    handover()
