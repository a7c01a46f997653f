"""
Transfers between random wallets over HTTP, beside a pgbench TPC-B baseline on the same server: `make bench`.

The last line is JSON. It exits with 1 where an answer was not a 201, where the ledger has other transfers than those
that were answered, or where the audit fails.
"""

import asyncio
import os
import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec import Struct
from msgspec.structs import replace

from bench.api import Api, api, tuning
from bench.baseline import Baseline, BaselineFailed
from bench.cpu import microseconds_each, seconds_used
from bench.load import Load, LoadFailed, Run, drive, generator
from bench.machine import look_at_machine
from bench.people import settle_in, transfers_recorded, write_holders
from bench.report import Report, Result, complaint, show
from bench.scratch import Scratch, leave_on_signals, scratch
from db.audit import audit
from db.child import EmbeddedError

_AUDIT_SECONDS = 600
# Between runs, for what was still under way when the one before ended.
_PAUSE_SECONDS = 0.5


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure."""

    seconds: int
    runs: int
    connections: tuple[int, ...]
    processes: int
    wallets: int


class Measured(Struct, frozen=True, kw_only=True):
    """One run, and what a transfer in it took of each part's processor time."""

    connections: int
    run: Run
    cpu_us: dict[str, float]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--seconds", default=10, show_default=True, type=click.IntRange(1, 600), help="Of each run.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 50), help="With each --connections.")
@click.option(
    "--connections",
    default=(64, 256),
    show_default=True,
    multiple=True,
    type=click.IntRange(1, 4096),
    help="May be given several times.",
)
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1, 64), help="Of the API.")
@click.option("--wallets", default=10_000, show_default=True, type=click.IntRange(2, 2_000_000))
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Holds the scratch data.")
def main(
    seconds: int, runs: int, connections: tuple[int, ...], processes: int, wallets: int, folder: Path | None
) -> None:
    """Transfers a second over HTTP, beside pgbench. WALLET_BANK_*, _LOCKS_*, _LOG_* and _POOL_* apply."""
    connections = tuple(dict.fromkeys(connections))
    plan = Plan(seconds=seconds, runs=runs, connections=connections, processes=processes, wallets=wallets)
    load_before = os.getloadavg()[0]
    leave_on_signals()
    try:
        with scratch(folder) as place:
            report = _measure(plan, place, load_before)
    except (EmbeddedError, BaselineFailed, LoadFailed) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    show(report)
    sys.exit(0 if report.ok else 1)


def _measure(plan: Plan, place: Scratch, load_before: float) -> Report:
    """Everything in its order: the baseline, the API under load, the baseline again, the audit."""
    machine = asyncio.run(look_at_machine(place.folder, load_before=load_before))
    click.echo(f"{machine}.\nLoad from {generator()}.")
    if machine.busy:
        click.echo(f"Others are at work on this machine (load average {load_before:.1f}): don't trust the figures.")
    if turned := tuning():
        click.echo(f"Settings that are not the defaults: {turned}.")

    holders, secret = place.folder / "holders.tsv", secrets.token_hex(32)
    baseline = Baseline(place.database_url)
    started_at = time.monotonic()
    asyncio.run(settle_in(plan.wallets))
    write_holders(holders, secret)
    asyncio.run(baseline.prepare())
    click.echo(f"{plan.wallets} wallets and the baseline's tables made in {time.monotonic() - started_at:.1f} s.")
    tpcb = [_tpcb(baseline, plan)]
    with api(place, processes=plan.processes, secret=secret) as served:
        measured = list(_runs(plan, place, served, holders))
        last_words = served.log.read_text(errors="replace")
    tpcb.append(_tpcb(baseline, plan))
    recorded = asyncio.run(transfers_recorded())
    click.echo("Proving the ledger.")
    audited = asyncio.run(asyncio.wait_for(audit(), _AUDIT_SECONDS))

    errors = [complaint(one.connections, one.run) for one in measured if one.run.errors]
    if errors and last_words:
        errors.append(f"the end of the API's log: {last_words[-1000:]}")
    answered = sum(one.run.created for one in measured)
    # More may be recorded: what was under way when a run ended was carried out, but nobody waited for the answer.
    if not answered <= recorded <= answered + sum(one.connections for one in measured):
        errors.append(f"{answered} transfers were answered with 201, but {recorded} are in the ledger")
    return Report(
        ok=audited.ok and not errors,
        machine=machine,
        generator=generator(),
        tuning=turned,
        processes=plan.processes,
        wallets=plan.wallets,
        seconds=plan.seconds,
        baseline=tpcb,
        results=[_result(number, measured[1:], statistics.mean(tpcb)) for number in plan.connections],
        transfers_answered=answered,
        transfers_recorded=recorded,
        errors=errors,
        audit=audited,
    )


def _tpcb(baseline: Baseline, plan: Plan) -> float:
    rate = round(baseline.transactions_per_second(plan.seconds), 1)
    click.echo(f"{baseline.description}: {rate:.0f}/s")
    return rate


def _runs(plan: Plan, place: Scratch, served: Api, holders: Path) -> Iterator[Measured]:
    """
    A warm-up first, in which processes meet tokens and wallet numbers; then the runs.

    Numbers of connections take turns, so that a machine that slows down or a table that grows meets all alike.
    """
    parts = {"API": served.pid, **place.server_pids, "load": os.getpid()}
    load = Load(
        host=served.host, port=served.port, holders=holders, connections=max(plan.connections), seconds=plan.seconds
    )
    for number, kind in [(load.connections, "warm-up"), *((each, "") for each in plan.connections * plan.runs)]:
        before = seconds_used(parts)
        run = drive(replace(load, connections=number))
        time.sleep(_PAUSE_SECONDS)
        yield Measured(connections=number, run=run, cpu_us=microseconds_each(before, seconds_used(parts), run.created))
        click.echo(f"{number:>5} connections: {run.per_second:.0f}/s {kind}".rstrip())


def _result(connections: int, measured: list[Measured], tpcb: float) -> Result:
    """The median run stands for its number of connections: the lower one of two."""
    runs = sorted((one for one in measured if one.connections == connections), key=lambda one: one.run.per_second)
    median = runs[(len(runs) - 1) // 2]
    return Result(
        connections=connections,
        per_second=round(median.run.per_second, 1),
        ratio=round(median.run.per_second / tpcb, 3),
        runs=[round(one.run.per_second, 1) for one in runs],
        p50_ms=median.run.p50_ms,
        p99_ms=median.run.p99_ms,
        cpu_us=median.cpu_us,
    )


if __name__ == "__main__":
    main()
