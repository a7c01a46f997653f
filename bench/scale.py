"""Whether a transfer costs more where there are a hundred times as many wallets: `python -m bench.scale`."""

import asyncio
import time
from urllib.parse import urlencode

import click

from app.payments.history import history
from bench.command import benchmark, connections_option, processes_option, wallets_option
from bench.load import Shape
from bench.past import Past, live_through
from bench.people import write_holder
from bench.stage import Case, Stage, in_words
from db.dates import learn_dates


@benchmark
@wallets_option(1_000_000)
@click.option(
    "--entries", default=10_000_000, show_default=True, type=click.IntRange(2_000), help="With so many wallets."
)
@connections_option(256)
@processes_option()
def scale(stage: Stage, wallets: int, entries: int, connections: tuple[int, ...], processes: int) -> None:
    """
    Transfers among 1%, 10% and 100% of the wallets, and the history of one that has a million entries.

    At most 10 000 of the wallets send, whatever their number, so that the API remembers the token of each; all receive.
    """

    def cases() -> list[Case]:
        name = f"{stage.wallets:,} wallets".replace(",", " ")
        return [
            Case(name=f"{name}, {in_words(number)}", connections=number, processes=processes) for number in connections
        ]

    hundredth, tenth = wallets // 100, wallets // 10
    stage.settle(hundredth)
    stage.measure(cases())
    stage.settle(tenth - hundredth)
    stage.measure(cases())
    past = _grow(stage, wallets=wallets - tenth, entries=entries - 2 * tenth)
    stage.measure([*cases(), *_pages(stage, past, processes)])
    smallest, largest = stage.results[0], next(one for one in stage.results if one.wallets == stage.wallets)
    if smallest.per_second:
        stage.notes.append(
            f"With {largest.wallets} wallets there were {largest.per_second / smallest.per_second:.2f} times as many"
            f" transfers a second as with {smallest.wallets}; measured in TPC-B,"
            f" {largest.ratio / smallest.ratio:.2f} times as many."
        )


def _grow(stage: Stage, *, wallets: int, entries: int) -> Past:
    started_at = time.monotonic()
    past = asyncio.run(live_through(wallets=wallets - wallets % 3, entries=entries))
    asyncio.run(learn_dates())  # as a worker does every hour
    stage.know_everybody()
    took = time.monotonic() - started_at
    stage.notes.append(f"{wallets} wallets with {entries} entries were loaded in {took:.0f} s.")
    click.echo(stage.notes[-1])
    return past


def _pages(stage: Stage, past: Past, processes: int) -> list[Case]:
    """The first page of the merchant's history, and two in the middle of it."""
    holder = stage.place.folder / "merchant.tsv"
    write_holder(holder, stage.secret, past.merchant_id)
    middle = past.began_at + (past.ended_at - past.began_at) / 2
    page = asyncio.run(history(past.merchant_id, limit=1, until=middle))
    return [
        Case(
            name=name,
            shape=Shape(steps=("history",), query=query),
            unit="pages",
            connections=1,
            processes=processes,
            holders=holder,
        )
        for name, query in {
            "first page of the long history": "",
            "page in the middle, by cursor": f"?cursor={page.next_cursor}",
            "first page before a date long ago": f"?{urlencode({'until': middle.isoformat()})}",
        }.items()
    ]


if __name__ == "__main__":
    scale()
