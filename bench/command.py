"""What the benchmarks' commands have in common: how they begin and end, and the options that most of them take."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from bench.api import tuning
from bench.baseline import BaselineFailed
from bench.cpu import cores_busy
from bench.driver import generator
from bench.machine import look_at_machine
from bench.report import Report, show
from bench.scratch import leave_on_signals, scratch
from bench.stage import Stage
from bench.wrk import LoadFailed
from db.audit import audit
from db.servers.process import EmbeddedError

Own = ParamSpec("Own")
Measure = Callable[Concatenate[Stage, Own], None]
Option = Callable[[Callable[..., Any]], Callable[..., Any]]

_AUDIT_SECONDS = 600
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def benchmark(measure: Measure[Own]) -> click.Command:
    """
    Make a command out of a function that measures on a stage: scratch servers before it, the audit after it.

    Its docstring is the command's help, with the first line as the title of its report. The last line that is printed
    is JSON. The command exits with 1 where an answer was neither 200 nor 201, where the ledger has other payments than
    those that were answered, or where the audit fails.
    """

    @click.command(context_settings=SETTINGS)
    @seconds_option()
    @runs_option()
    @folder_option()
    @wraps(measure)
    def command(seconds: int, runs: int, folder: Path | None, *args: Own.args, **own: Own.kwargs) -> None:
        busy = cores_busy()
        leave_on_signals()
        try:
            with scratch(folder) as place:
                report = _report(measure, Stage(place, seconds=seconds, runs=runs), busy, *args, **own)
        except (EmbeddedError, BaselineFailed, LoadFailed) as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)
        show(report)
        sys.exit(0 if report.ok else 1)

    return command


def seconds_option() -> Option:
    """`--seconds`."""
    return click.option("--seconds", default=3, show_default=True, type=click.IntRange(1, 600), help="Of each run.")


def runs_option() -> Option:
    """`--runs`."""
    return click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 50), help="Of each case.")


def folder_option() -> Option:
    """`--folder`."""
    kind = click.Path(path_type=Path, exists=True, file_okay=False)
    return click.option("--folder", type=kind, help="Holds the scratch data; the system's temporary one if not given.")


def wallets_option(default: int) -> Option:
    """`--wallets`."""
    return click.option("--wallets", default=default, show_default=True, type=click.IntRange(2, 2_000_000))


def connections_option(*default: int) -> Option:
    """`--connections`, which may be given several times."""
    return click.option(
        "--connections",
        default=default,
        show_default=True,
        multiple=True,
        type=click.IntRange(1, 4096),
        callback=lambda _context, _option, given: tuple(dict.fromkeys(given)),
        help="May be given several times.",
    )


def processes_option() -> Option:
    """`--processes` of the API."""
    return click.option("--processes", default=2, show_default=True, type=click.IntRange(1, 64), help="Of the API.")


def _report(measure: Measure[Own], stage: Stage, busy: float, *args: Own.args, **own: Own.kwargs) -> Report:
    started_at = datetime.now(UTC)
    machine = asyncio.run(look_at_machine(stage.place.folder, cores_busy_before=busy))
    click.echo(f"{machine}.\nLoad from {generator()}.")
    if machine.busy:
        click.echo(f"Others are at work on this machine ({busy:.1f} cores busy): don't trust the figures.")
    if turned := tuning():
        click.echo(f"Settings that are not the defaults: {turned}.")
    stage.prepare()
    measure(stage, *args, **own)
    click.echo("Proving the ledger.")
    audited = asyncio.run(asyncio.wait_for(audit(), _AUDIT_SECONDS))
    return Report(
        bench=measure.__name__,
        title=(measure.__doc__ or "").strip().splitlines()[0],
        ok=audited.ok and not stage.errors,
        measured_at=started_at,
        took_seconds=round((datetime.now(UTC) - started_at).total_seconds(), 1),
        machine=machine,
        generator=generator(),
        tuning=turned,
        seconds=stage.seconds,
        runs=stage.runs,
        baseline=stage.baseline,
        results=stage.results,
        payments_answered=stage.answered,
        payments_recorded=stage.recorded,
        notes=stage.notes,
        errors=stage.errors,
        audit=audited,
    )
