"""What is written of benchmarks."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import bench
from bench.load import Run, Shape
from bench.machine import Machine
from bench.report import Report, Result, complaint
from bench.results import FILE, Results, add_to_file
from db.audit import AuditReport, Finding

ORDER = ["transfers", "hot", "scale"]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def report(bench: str, *, per_second: float = 5000.0, ok: bool = True) -> Report:
    """One with three cases."""
    return Report(
        bench=bench,
        title="Transfers between random wallets.",
        ok=ok,
        measured_at=NOW,
        took_seconds=60,
        machine=Machine(
            processor="A processor",
            cores=2,
            system="Linux 6",
            python="3.11.7",
            postgres="18.6",
            fsync="on",
            synchronous_commit="on",
            flush_ms=0.1,
            cores_busy_before=0.1,
        ),
        generator="wrk with 2 threads on the same cores",
        tuning={},
        seconds=4,
        runs=3,
        baseline=[(4000.0, 5000.0)],
        results=[
            Result(
                case=f"{number} connections",
                unit="transfers",
                wallets=10 * number,
                processes=2,
                connections=8 if bench == "scale" else number,
                per_second=per_second,
                runs=[per_second],
                ratio=1.25,
                baseline=4500.0,
                p50_ms=5.0,
                p90_ms=8.0,
                p99_ms=13.0 + number,
                batch_orders=float(number),
                memory_mib=100.0,
                cpu_us={"API": 150.0, "PostgreSQL": 40.0, "Valkey": 10.0},
            )
            for number in (8, 64, 256)
        ],
        payments_answered=100,
        payments_recorded=100,
        notes=[],
        errors=[] if ok else ["64 connections: 3 x 500\nand more"],
        audit=AuditReport(
            ok=ok,
            checked_at=NOW,
            seconds=0.1,
            wallets=10,
            transactions=100,
            entries=200,
            findings=[] if ok else [Finding("balances", 2, ["wallet 1", "wallet 2"])],
        ),
    )


def test_a_benchmark_alone_replaces_its_own_results_and_no_others(tmp_path: Path) -> None:
    add_to_file(tmp_path, Results(written_at=NOW, reports=[report("scale"), report("hot")], unfinished=[]), ORDER)
    newer = report("hot", per_second=7777.0)
    add_to_file(tmp_path, Results(written_at=NOW, reports=[newer], unfinished=["transfers"]), ORDER)
    kept = msgspec.json.decode((tmp_path / FILE).read_bytes(), type=Results)
    assert [each.bench for each in kept.reports] == ["hot", "scale"]
    assert kept.reports == [newer, report("scale")]
    page = (tmp_path / "results.md").read_text()
    assert (
        "| 64 connections | 7777 transfers | 1.25 | 5.0 | 77.0 | 64.0 | 100 | API 150, PostgreSQL 40, Valkey 10 |"
        in page
    )
    assert "2026-11-25" in page
    assert "A processor" in page
    assert "Without a result this time: transfers." in page
    assert "failed" not in page


def test_results_of_a_time_when_they_looked_otherwise_give_way(tmp_path: Path) -> None:
    add_to_file(tmp_path, Results(written_at=NOW, reports=[report("hot")], unfinished=[]), ORDER)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes().replace(b'"cores_busy_before"', b'"load_before"'))
    kept = add_to_file(tmp_path, Results(written_at=NOW, reports=[report("scale")], unfinished=[]), ORDER)
    assert [each.bench for each in kept.reports] == ["scale"]


def test_a_failed_one_says_so_and_why(tmp_path: Path) -> None:
    add_to_file(tmp_path, Results(written_at=NOW, reports=[report("hot", ok=False)], unfinished=[]), ORDER)
    page = (tmp_path / "results.md").read_text()
    assert "**This run failed**" in page
    assert "- Error: 64 connections: 3 x 500 and more\n" in page
    assert "the audit of 200 entries took 0.1 s and FAILS" in page
    assert "Does not hold: balances, in 2 places: wallet 1, wallet 2." in page


def test_the_same_results_give_the_same_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only `make bench` installs it")
    from bench.plots import draw

    results = Results(written_at=NOW, reports=[report("transfers"), report("scale")], unfinished=[])
    first = [file.read_text() for file in draw(results, tmp_path)]
    assert [file.read_text() for file in draw(results, tmp_path)] == first
    assert len(first) == 4
    for picture in first:
        assert "2026-11-25, A processor, 2 cores, Linux 6" in picture
    failed = replace(results, reports=[report("transfers", ok=False)])
    assert draw(failed, tmp_path) == []


def test_whatever_is_neither_200_nor_201_is_an_error() -> None:
    latencies = {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "max_ms": 1.0}
    run = Run(seconds=1, statuses={"200": 5, "201": 7, "207": 1, "503": 2}, broken=1, late=4, sample="no", **latencies)
    assert (run.good, run.created, run.errors) == (12, 7, 8)
    assert complaint("hot", run) == "hot: 1 x 207, 2 x 503; 1 connections broken; 4 answers too late; the first: no"


def test_nothing_of_a_benchmark_is_written_below_its_start() -> None:
    for file in Path(bench.__file__).parent.glob("*.py"):
        lines = ast.parse(file.read_text()).body
        assert not any(map(_is_start, lines[:-1])), f"{file.name} starts before all of it is there"


def _is_start(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def test_one_wallet_has_nobody_to_pay() -> None:
    with pytest.raises(ValueError, match="nobody to send to"):
        Shape(steps=("history", "bulk"), senders=1, receivers=1)
    Shape(steps=("history", "deposit"), senders=1, receivers=1)
