"""Every benchmark, one after another, each with servers of its own: `python -m bench`, or `make bench`."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from bench.command import SETTINGS, folder_option, runs_option, seconds_option
from bench.report import Report
from bench.results import Results, add_to_file
from bench.scratch import leave_on_signals
from db.servers.process import die_with

BENCHMARKS = ("transfers", "latency", "hot", "bulk", "mixed", "processes", "fees", "scale")
# Those that run only when asked for.
BESIDES = ("handover", "held", "outages")


@click.command(context_settings=SETTINGS)
@click.option("--only", multiple=True, type=click.Choice(BENCHMARKS + BESIDES), help="May be given several times.")
@click.option("--write", type=click.Path(path_type=Path, file_okay=False), help="Put tables, JSON and plots there.")
@seconds_option()
@runs_option()
@folder_option()
def main(only: tuple[str, ...], write: Path | None, seconds: int, runs: int, folder: Path | None) -> None:
    """
    Every benchmark, one after another.

    One that fails does not keep the others from running; the command exits with 1 then.
    """
    leave_on_signals()
    started_at = time.monotonic()
    options = ["--seconds", str(seconds), "--runs", str(runs), *(["--folder", str(folder)] if folder else [])]
    chosen = [name for name in BENCHMARKS + BESIDES if name in (only or BENCHMARKS)]
    found: dict[str, Report | None] = {}
    for name in chosen:
        click.secho(f"\n{name}\n", bold=True)
        found[name] = _run(name, options)
    if write:
        results = Results(
            written_at=datetime.now(UTC),
            reports=[report for report in found.values() if report],
            unfinished=[name for name, report in found.items() if not report],
        )
        _write(add_to_file(write, results, list(BENCHMARKS + BESIDES)), write)
    failed = [name for name, report in found.items() if not (report and report.ok)]
    click.echo(f"\n{len(chosen)} benchmarks in {time.monotonic() - started_at:.0f} s.")
    if failed:
        click.echo(f"Failed: {', '.join(failed)}.", err=True)
    sys.exit(1 if failed else 0)


def _run(name: str, options: list[str]) -> Report | None:
    """
    Run it in a process of its own, which keeps its mishaps to itself, and show what it says but for the JSON.

    None where it ends without a report.
    """
    last = ""
    parent = os.getpid()
    with subprocess.Popen(
        [sys.executable, "-m", f"bench.{name}", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C in the terminal is for us alone; we end it
        preexec_fn=lambda: die_with(parent, signal.SIGTERM),
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                if last:
                    click.echo(last, nl=False)
                last = line
        except BaseException:
            process.terminate()  # we are leaving: it must stop its servers
            raise
    try:
        return msgspec.json.decode(last, type=Report)
    except msgspec.DecodeError:
        click.echo(last, nl=False)
        return None


def _write(results: Results, folder: Path) -> None:
    try:
        from bench.plots import draw  # here: only what writes needs matplotlib
    except ImportError:
        click.echo("No plots: matplotlib is missing. `.ci/install bench` brings it.", err=True)
        sys.exit(1)
    draw(results, folder)
    click.echo(f"\nWritten to {folder}/.")


if __name__ == "__main__":
    main()
