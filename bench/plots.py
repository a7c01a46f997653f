"""Four pictures of the results, as SVG: the same results give the same files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from bench.report import Report, Result
from bench.results import Results, when_and_where

_STYLE = {
    "svg.hashsalt": "wallet",  # else the ids in the file are new each time
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "lines.marker": "o",
    "lines.linewidth": 2,
    "legend.frameon": False,
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what did not fail, and say which files that made."""
    reports = {report.bench: report for report in results.reports if report.ok}
    made: list[Path] = []
    for file, bench, picture in (
        ("throughput.svg", "transfers", _throughput),
        ("latency.svg", "transfers", _latency),
        ("batches.svg", "transfers", _batches),
        ("wallets.svg", "scale", _wallets),
    ):
        if bench in reports:
            with matplotlib.rc_context(_STYLE):
                figure = Figure(figsize=(7.2, 4.2), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
                picture(figure.add_subplot(), reports[bench])
                figure.supxlabel(when_and_where(reports[bench]), fontsize=7, color="#666666", x=0.01, ha="left")
                figure.savefig(folder / file, metadata={"Date": None})
            made.append(folder / file)
    return made


def _throughput(axes: Axes, report: Report) -> None:
    results = _by_connections(report)
    axes.set_title("Transfers a second, by how many are in flight at once")
    axes.plot([_x(each) for each in results], [each.per_second for each in results], label="transfers")
    axes.plot(
        [_x(each) for each in results],
        [each.baseline for each in results],
        label="pgbench TPC-B, 8 clients",
        marker="",
        linestyle="--",
        color="#888888",
    )
    axes.set_ylabel("a second")
    _connections(axes, results)


def _latency(axes: Axes, report: Report) -> None:
    results = _by_connections(report)
    axes.set_title("How long a transfer takes, by how many are in flight at once")
    for label, times in (
        ("99 % within", [each.p99_ms for each in results]),
        ("90 % within", [each.p90_ms for each in results]),
        ("half within", [each.p50_ms for each in results]),
    ):
        axes.plot([_x(each) for each in results], [value or 0.0 for value in times], label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("milliseconds")
    _connections(axes, results)


def _batches(axes: Axes, report: Report) -> None:
    results = [each for each in _by_connections(report) if each.batch_orders]
    axes.set_title("How many transfers share a commit, by how many are in flight at once")
    axes.plot([_x(each) for each in results], [each.batch_orders or 0.0 for each in results])
    axes.set_ylabel("orders in a batch, on average")
    _connections(axes, results)


def _wallets(axes: Axes, report: Report) -> None:
    most = max((each.connections or 0 for each in report.results if each.unit == "transfers"), default=0)
    results = [each for each in report.results if each.unit == "transfers" and each.connections == most]
    axes.set_title("Processor time of a transfer, by number of wallets")
    for part in ("API", "PostgreSQL", "Valkey"):
        if all(part in each.cpu_us for each in results):
            axes.plot([each.wallets for each in results], [each.cpu_us[part] for each in results], label=part)
    axes.set_xlabel(f"wallets ({most} connections)")
    axes.set_ylabel("microseconds a transfer")
    _logarithmic(axes, [each.wallets for each in results])


def _by_connections(report: Report) -> list[Result]:
    return sorted(report.results, key=_x)


def _x(result: Result) -> int:
    return result.connections or 0


def _connections(axes: Axes, results: list[Result]) -> None:
    axes.set_xlabel("connections, each with one transfer in flight")
    _logarithmic(axes, [_x(each) for each in results])


def _logarithmic(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(values, labels=[f"{value:,}".replace(",", " ") for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=None if axes.get_yscale() == "log" else 0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
