"""What others notice where somebody holds one wallet's row, or a whole table: `python -m bench.held`."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import asyncpg
import click

from bench.api import api
from bench.client import Tally, drive_and_tell
from bench.command import benchmark, wallets_option
from bench.load import Shape
from bench.stage import PAUSE_SECONDS, Case, Stage

_PROCESSES = 2
_ON_THE_WALLET, _ELSEWHERE = 8, 56
_WARM_UP_SECONDS, _ROW_SECONDS, _TABLE_SECONDS = 6, 20, 6
_TABLES = ("wallet", "entry", "transaction", "idempotency_key")

# While it is open PostgreSQL keeps every version of every row, and reads through more of them each time.
_NOTHING = "SELECT pg_current_xact_id()"
_ROW = 'SELECT FROM "wallet" WHERE "id" = {} FOR UPDATE'
_TABLE = 'LOCK TABLE "{}"'


@benchmark
@wallets_option(10_000)
def held(stage: Stage, wallets: int) -> None:
    """8 clients of a wallet whose row is held for 20 s, beside 56 of other wallets; and tables locked for 6 s each."""
    stage.settle(wallets)
    one, others = _apart(stage.holders)
    crowd = Case(name="elsewhere", connections=_ELSEWHERE, processes=_PROCESSES, holders=others, expected=("503",))
    few = Case(
        name="on the wallet",
        shape=Shape(steps=("deposit",)),
        connections=_ON_THE_WALLET,
        processes=_PROCESSES,
        holders=one,
        expected=("503",),
    )
    faults: list[tuple[str, str | None, int]] = [
        ("warm-up", None, _WARM_UP_SECONDS),
        ("nobody holds anything", None, _ROW_SECONDS),
        ("a transaction is open", _NOTHING, _ROW_SECONDS),
        ("its row is held", _ROW.format(one.read_text().split()[0]), _ROW_SECONDS),
        *((f"{table} is locked", _TABLE.format(table), _TABLE_SECONDS) for table in _TABLES),
    ]
    with (
        ProcessPoolExecutor(2, get_context("spawn")) as clients,
        stage.beside_baseline(),
        stage.accounting() as driven,
        api(stage.place, processes=_PROCESSES, secret=stage.secret) as served,
    ):
        for name, statement, seconds in faults:
            cases = (crowd, few)
            loads = [stage.load(case, served, seconds=seconds) for case in cases]
            with _holding(stage.place.database_url, statement):
                tallies = list(clients.map(drive_and_tell, loads))
            for case, tally in zip(cases, tallies, strict=True):
                driven.append((case, tally.run))
                paid = [answer for answer in tally.answers if answer.status == 201]
                phase = f"{name}: {case.name}"
                stage.results.append(stage.result_of_answers(phase, case, [(paid, tally.run.seconds)], unit="payments"))
                stage.notes.append(_in_words(phase, tally))
                click.echo(stage.notes[-1])
            time.sleep(PAUSE_SECONDS)


def _apart(holders: Path) -> tuple[Path, Path]:
    """One holder, and all the others: files for clients that have nothing to do with each other."""
    first, *others = holders.read_text().splitlines(keepends=True)
    files = holders.with_name("one.tsv"), holders.with_name("others.tsv")
    for file, lines in zip(files, ([first], others), strict=True):
        file.write_text("".join(lines))
    return files


@contextmanager
def _holding(database_url: str, statement: str | None) -> Iterator[None]:
    """Somebody else's transaction has run the statement, and does nothing more as long as the block runs."""
    if not statement:
        yield
        return
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        runner.run(connection.execute(f"BEGIN; {statement}"))
        yield
        runner.run(connection.close())


def _in_words(name: str, tally: Tally) -> str:
    answers = Counter(answer.status for answer in tally.answers)
    slowest = {status: max(each.seconds for each in tally.answers if each.status == status) for status in answers}
    told = ", ".join(
        f"{answers[status]} times {status}, the slowest {slowest[status]:.2f} s" for status in sorted(answers)
    )
    return f"{name}: {told or 'no answer'}."


if __name__ == "__main__":
    held()
