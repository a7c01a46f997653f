"""The day on which everybody's fee is due: `python -m bench.fees`."""

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from time import perf_counter

import click
from msgspec import Struct

from app.commands.jobs import charge_fees
from app.settings import load_settings
from bench.api import settle_environment
from bench.command import benchmark, wallets_option
from bench.cpu import microseconds_each, seconds_used
from bench.people import movements_recorded, rest
from bench.proc import peak_mib
from bench.report import Result
from bench.stage import Stage
from db.tables import Wallet

_MAKE_DUE = """
UPDATE "wallet" SET "fee_due_at" = {}
WHERE "id" IN (SELECT "id" FROM "wallet" WHERE "user" IS NOT NULL ORDER BY "id" LIMIT {})
"""


class _Swept(Struct, frozen=True, kw_only=True):
    """What one run of the fees charged, and how long it took."""

    charged: int
    seconds: float
    peak_mib: float
    cpu_us: dict[str, float] = {}

    @property
    def per_second(self) -> float:
        return self.charged / self.seconds


@benchmark
@wallets_option(100_000)
def fees(stage: Stage, wallets: int) -> None:
    """
    Fees of all wallets due at once, and of a tenth of them, charged as `wallet fees` and the worker do it.

    The memory is the most that the charging process has had.
    """
    stage.settle(wallets)
    settle_environment(stage.place, stage.secret)
    # A period's fee is charged once, so each sweep has a day of its own.
    days = iter(datetime.now(UTC) - timedelta(days=1, seconds=number) for number in range(10_000))
    counts = (max(wallets // 10, 1), wallets)
    swept: dict[int, list[_Swept]] = {count: [] for count in counts}
    with stage.beside_baseline():
        _sweep(stage, counts[0], next(days))  # warms up
        for count in counts * stage.runs:
            swept[count].append(_sweep(stage, count, next(days)))
        stage.results += [_result(stage, count, runs) for count, runs in swept.items()]


def _sweep(stage: Stage, count: int, due_at: datetime) -> _Swept:
    """Let the fees of so many wallets be due, and charge them in a process of their own."""
    asyncio.run(Wallet.raw(_MAKE_DUE, due_at, count).run())
    asyncio.run(rest())
    parts = {"fees": os.getpid(), **stage.place.server_pids}
    recorded, cpu = asyncio.run(movements_recorded()), seconds_used(parts)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        swept = process.submit(_charge).result()
    cpu_us = microseconds_each(cpu, seconds_used(parts), count)
    recorded = asyncio.run(movements_recorded()) - recorded
    if not swept.charged == recorded == count:
        stage.errors.append(f"{count} fees were due, {swept.charged} were charged, {recorded} are in the ledger")
    stage.answered += swept.charged
    stage.recorded += recorded
    click.echo(f"{count} due: {swept.per_second:.0f} wallets/s, at most {swept.peak_mib:.0f} MiB")
    return _Swept(charged=swept.charged, seconds=swept.seconds, peak_mib=swept.peak_mib, cpu_us=cpu_us)


def _charge() -> _Swept:
    settings = load_settings(os.environ)
    started_at = perf_counter()
    done = asyncio.run(charge_fees(settings))
    return _Swept(charged=done.charged, seconds=perf_counter() - started_at, peak_mib=peak_mib())


def _result(stage: Stage, count: int, swept: list[_Swept]) -> Result:
    runs = sorted(swept, key=lambda run: run.per_second)
    median = runs[(len(runs) - 1) // 2]
    return Result(
        case=f"{count} due",
        unit="wallets",
        wallets=stage.wallets,
        processes=1,
        per_second=round(median.per_second, 1),
        runs=[round(run.per_second, 1) for run in runs],
        memory_mib=round(max(run.peak_mib for run in runs), 1),
        cpu_us=median.cpu_us,
    )


if __name__ == "__main__":
    fees()
