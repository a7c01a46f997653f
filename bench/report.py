"""What a benchmark reports: a table for people, and one line of JSON."""

from collections.abc import Iterator
from datetime import datetime

import click
import msgspec
from msgspec import Struct

from bench.load import Run
from bench.machine import Machine
from db.audit import AuditReport

# Baselines that differ by more than this say that the machine did not hold still.
_STEADY = 0.15


class Result(Struct, frozen=True, kw_only=True):
    """One case: its median run, and how many times the baseline taken around it each run was, by the median."""

    case: str
    unit: str  # of what `per_second` counts
    wallets: int  # how many there were
    processes: int
    connections: int | None = None
    per_second: float
    runs: list[float]  # the same of each run, lowest first
    ratio: float = 0.0
    baseline: float = 0.0  # TPC-B transactions a second, on average before, between and after the rounds
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    batch_orders: float | None = None  # on average
    memory_mib: float = 0.0  # resident: of the largest API process after a run, or what the case says
    cpu_us: dict[str, float] = {}  # microseconds of each part's processor time for one of what is counted


class Report(Struct, frozen=True, kw_only=True):
    """Everything that was seen; `ok` means that no answer was an error and all money is accounted for."""

    bench: str
    title: str
    ok: bool
    measured_at: datetime
    took_seconds: float
    machine: Machine
    generator: str
    tuning: dict[str, str]
    seconds: int  # of a run
    runs: int  # of a case
    baseline: list[tuple[float, ...]]  # TPC-B transactions a second, before, between and after the rounds of each part
    results: list[Result]
    payments_answered: int
    payments_recorded: int
    notes: list[str]
    errors: list[str]
    audit: AuditReport


HEADINGS = ("case", "a second", "x TPC-B", "p50 ms", "p99 ms", "batch", "MiB", "CPU us of one")


def cells(result: Result) -> tuple[str, ...]:
    """A line under `HEADINGS`."""
    return (
        result.case,
        f"{result.per_second:.0f} {result.unit}",
        f"{result.ratio:.2f}",
        *("" if value is None else f"{value:.1f}" for value in (result.p50_ms, result.p99_ms, result.batch_orders)),
        f"{result.memory_mib:.0f}" if result.memory_mib else "",
        ", ".join(f"{name} {used:.0f}" for name, used in result.cpu_us.items()),
    )


def remarks(report: Report) -> Iterator[str]:
    """What stands below the table."""
    for taken in report.baseline:
        each = ", ".join(f"{rate:.0f}" for rate in taken)
        yield f"pgbench TPC-B, before, between and after: {each}/s, on average {sum(taken) / len(taken):.0f}/s."
        if max(taken) - min(taken) > _STEADY * max(taken):
            yield f"These differ by more than {_STEADY:.0%}: the machine was not quiet, so trust the ratios less."
    yield from report.notes
    audit = report.audit
    yield (
        f"{report.payments_answered} payments answered, {report.payments_recorded} in the ledger; the audit of"
        f" {audit.entries} entries took {audit.seconds:.1f} s and {'holds' if audit.ok else 'FAILS'}."
    )
    for finding in audit.findings:
        yield f"Does not hold: {finding.rule}, in {finding.count} places: {', '.join(finding.examples[:3])}."
    for error in report.errors:
        yield f"Error: {error}"


def show(report: Report) -> None:
    """Print it, the line of JSON last."""
    rows = [HEADINGS, *map(cells, report.results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    click.echo()
    for first, *middle, last in rows:
        aligned = (f"{cell:>{width}}" for cell, width in zip(middle, widths[1:-1], strict=True))
        click.echo(f"{first:<{widths[0]}}  {'  '.join(aligned)}  {last}".rstrip())
    click.echo()
    for remark in remarks(report):
        click.echo(remark)
    click.echo(msgspec.json.encode(report))


def complaint(case: str, run: Run) -> str:
    """What went wrong in a run, in words."""
    others = ", ".join(f"{n} x {status}" for status, n in sorted(run.statuses.items()) if status not in ("200", "201"))
    told = [others, run.broken and f"{run.broken} connections broken", run.late and f"{run.late} answers too late"]
    first = f"; the first: {run.sample[:500]}" if run.sample else ""
    return f"{case}: {'; '.join(filter(None, map(str, filter(None, told))))}{first}"
