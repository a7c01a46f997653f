"""What a benchmark of transfers tells: a table for people, and one line of JSON."""

import click
import msgspec
from msgspec import Struct

from bench.load import Run
from bench.machine import Machine
from db.audit import AuditReport

# Baselines before and after that differ by more than this say that the machine did not hold still.
_STEADY = 0.15


class Result(Struct, frozen=True, kw_only=True):
    """One number of connections: its median run, and that as a multiple of the baseline."""

    connections: int
    per_second: float
    ratio: float
    runs: list[float]  # transfers a second, slowest first
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]  # microseconds of each part's processor time a transfer


class Report(Struct, frozen=True, kw_only=True, tag_field="bench", tag="transfers"):
    """Everything that was seen; `ok` means that no answer was an error and every transfer is accounted for."""

    ok: bool
    machine: Machine
    generator: str
    tuning: dict[str, str]
    processes: int
    wallets: int
    seconds: int
    baseline: list[float]  # TPC-B transactions a second, before and after
    results: list[Result]
    transfers_answered: int
    transfers_recorded: int
    errors: list[str]
    audit: AuditReport


def show(report: Report) -> None:
    """Print it."""
    before, after = report.baseline
    click.echo(f"\npgbench TPC-B  {before:.0f}/s before, {after:.0f}/s after: {(before + after) / 2:.0f}/s = 1.00")
    if abs(before - after) > _STEADY * max(before, after):
        click.echo("They differ a lot: the machine was not quiet, so the ratios below say little.")
    click.echo(
        f"\n{'connections':>11} {'transfers/s':>12} {'x TPC-B':>8} {'p50 ms':>8} {'p99 ms':>8}  CPU us a transfer"
    )
    for result in report.results:
        cpu = ", ".join(f"{name} {used:.0f}" for name, used in result.cpu_us.items())
        click.echo(
            f"{result.connections:>11} {result.per_second:>12.0f} {result.ratio:>8.2f} {result.p50_ms:>8.1f}"
            f" {result.p99_ms:>8.1f}  {cpu}"
        )
    click.echo(
        f"\n{report.transfers_answered} transfers answered, {report.transfers_recorded} in the ledger;"
        f" the audit {'holds' if report.audit.ok else 'FAILS'}."
    )
    for finding in report.audit.findings:
        click.echo(f"Does not hold: {finding.rule}, in {finding.count} places: {', '.join(finding.examples[:3])}")
    for error in report.errors:
        click.echo(f"Error: {error}")
    click.echo(msgspec.json.encode(report))


def complaint(connections: int, run: Run) -> str:
    """What went wrong in a run, in words."""
    others = ", ".join(f"{count} x {status}" for status, count in sorted(run.statuses.items()) if status != "201")
    told = [others, run.broken and f"{run.broken} connections broken", run.late and f"{run.late} answers too late"]
    first = f"; the first: {run.sample[:500]}" if run.sample else ""
    return f"{connections} connections: {'; '.join(filter(None, map(str, filter(None, told))))}{first}"
