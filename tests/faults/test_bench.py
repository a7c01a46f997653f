"""The load that benchmarks make, by either client, on a real server process; and a benchmark from end to end."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import pytest

from bench import client, wrk
from bench.load import Load, Run, Shape
from bench.people import settle_in, write_holders
from bench.report import Report
from db.audit import audit
from db.tables import Transaction
from tests.helpers.wallet_processes import environment, server

ROOT = Path(__file__).parents[2]
SECRET = "a secret of at least thirty-two bytes"
WALLETS = 30
ITEMS = 3

T = TypeVar("T")

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


@pytest.mark.parametrize("drive", [pytest.param(wrk.drive, marks=needs_wrk, id="wrk"), client.drive])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(steps=("transfer", "deposit", "wallets", "history", "bulk", "atomic"), items=ITEMS, query="?limit=7"),
        Shape(steps=("transfer", "bulk"), senders=1, items=ITEMS),
        Shape(steps=("transfer", "atomic", "history"), receivers=1, items=ITEMS, query=""),
    ],
    ids=["every step", "one sender", "one receiver"],
)
def test_a_load_is_carried_out_and_accounted_for(
    drive: Callable[[Load], Run], shape: Shape, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    holders = tmp_path / "holders.tsv"
    _apart(lambda: asyncio.run(settle_in(WALLETS)))
    assert _apart(lambda: write_holders(holders, SECRET)) == WALLETS
    first = int(holders.read_text().split("\t", 1)[0])
    variables = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "WALLET_SECRET": SECRET}
    with server("api", folder=tmp_path, **variables) as running:
        running.wait_until_live()
        address = urlsplit(running.url)
        assert address.hostname
        assert address.port
        run = drive(
            Load(host=address.hostname, port=address.port, holders=holders, connections=4, seconds=1, shape=shape)
        )
    assert run.errors == 0, run
    assert run.created
    assert bool(run.statuses.get("200")) == ("history" in shape.steps)
    # The server has ended, so what was still under way is there too.
    moved = [row for row in _apart(_movements) if row["amount"] == Decimal("1.00")]
    assert len(moved) > run.created  # some answers tell of several
    assert {row["operation_type"] for row in moved} == {step.upper() for step in shape.steps} & {"DEPOSIT", "TRANSFER"}
    for side, only in (("sender", shape.senders == 1), ("receiver", shape.receivers == 1)):
        paid = {row[side] for row in moved if row["operation_type"] == "TRANSFER"}
        assert paid == {first} if only else len(paid) > 1
    report = _apart(lambda: asyncio.run(audit()))
    assert report.ok, report.findings


def test_a_benchmark_measures_and_accounts_for_every_payment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.transfers", "--seconds", "1", "--runs", "1", "--connections", "2"]
    done = subprocess.run(
        [*command, "--wallets", "50", "--folder", str(tmp_path)],
        cwd=ROOT,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)
    assert (report.bench, report.ok, report.errors) == ("transfers", True, [])
    (result,) = report.results
    assert result.per_second > 0
    assert result.ratio == pytest.approx(result.per_second / (sum(report.baseline[0]) / 2), abs=0.002)
    assert result.batch_orders
    assert 0 < report.payments_answered <= report.payments_recorded == report.audit.transactions - 50
    assert not list(tmp_path.iterdir()), "something stays behind"


def _movements() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = asyncio.run(Transaction.select().run())
    return rows


def _apart(work: Callable[[], T]) -> T:
    """Run it in a thread of its own: it has an event loop of its own, and the tests' belongs to the tests."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()
