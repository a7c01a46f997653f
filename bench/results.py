"""What all benchmarks together have found, as JSON and as tables for people."""

from datetime import datetime
from pathlib import Path
from textwrap import shorten

import msgspec
from msgspec import Struct

from bench.report import HEADINGS, Report, cells, remarks

FILE = "results.json"

# An error may bring along much of a log, which the JSON has whole.
_REMARK_MAX = 400

_LEGEND = f"""\
Everything that was measured is in [{FILE}]({FILE}). The tables show each case by its median run:

- **a second**: how many of what the case counts were completed in a second;
- **x TPC-B**: that number divided by what `pgbench` did on the same server just before and after;
- **batch**: orders in one commit, on average;
- **MiB**: resident memory of the largest API process after a run; for fees, the peak of the process that charged them;
- **CPU**: processor time that each part spent on one of what the case counts."""


class Results(Struct, frozen=True, kw_only=True):
    """The reports in the order in which benchmarks run, and the names of those that ended without one."""

    written_at: datetime
    reports: list[Report]
    unfinished: list[str]


def add_to_file(folder: Path, new: Results, order: list[str]) -> Results:
    """
    Write them to `folder`, over those of the same benchmarks there. Those of others stay, each with its own date.

    What the files hold then.
    """
    file = folder / FILE
    reports = {report.bench: report for report in _read(file)} | {report.bench: report for report in new.reports}
    results = Results(
        written_at=new.written_at,
        reports=[reports[bench] for bench in order if bench in reports],
        unfinished=new.unfinished,
    )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    (folder / "results.md").write_text(tables(results))
    return results


def tables(results: Results) -> str:
    """A page in Markdown."""
    lines = ["# Results", "", f"Written by `make bench` on {results.written_at:%Y-%m-%d}. {_LEGEND}"]
    for report in results.reports:
        lines += ["", f"## {report.bench}", "", f"{report.title} {_circumstances(report)}"]
        if not report.ok:
            lines += ["", "**This run failed**, as is told below: don't trust its figures."]
        lines += [
            "",
            _row(HEADINGS),
            _row(["---"] * len(HEADINGS)),
            *(_row(cells(each)) for each in report.results),
            "",
        ]
        lines += [f"- {shorten(remark, _REMARK_MAX, placeholder=' …')}" for remark in remarks(report)]
    if results.unfinished:
        lines += ["", f"Without a result this time: {', '.join(results.unfinished)}."]
    return "\n".join([*lines, ""])


def when_and_where(report: Report) -> str:
    """The date and the machine, in a few words."""
    machine = report.machine
    return f"{report.measured_at:%Y-%m-%d}, {machine.processor}, {machine.cores} cores, {machine.system}"


def _circumstances(report: Report) -> str:
    turned = f" Settings that are not the defaults: {report.tuning}." if report.tuning else ""
    busy = " Others were at work on the machine." if report.machine.busy else ""
    return (
        f"On {report.measured_at:%Y-%m-%d}, {report.runs} runs of {report.seconds} s a case; {report.machine}."
        f" Load from {report.generator}.{turned}{busy}"
    )


def _read(file: Path) -> list[Report]:
    """What was found earlier; nothing where the file is of a time when reports looked otherwise."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results).reports if file.exists() else []
    except msgspec.ValidationError:
        return []


def _row(values: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(values)} |"
