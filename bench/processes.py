"""What more API processes bring on this machine: `python -m bench.processes`."""

import click

from bench.command import benchmark, connections_option, wallets_option
from bench.stage import Case, Stage, in_words, processes_in_words


@benchmark
@connections_option(256)
@click.option(
    "--processes",
    default=(1, 2, 4),
    show_default=True,
    multiple=True,
    type=click.IntRange(1, 64),
    help="Of the API; may be given several times.",
)
@wallets_option(10_000)
def processes(stage: Stage, connections: tuple[int, ...], processes: tuple[int, ...], wallets: int) -> None:
    """Transfers between random wallets, through one API process and through several."""
    stage.settle(wallets)
    stage.measure(
        [
            Case(
                name=f"{processes_in_words(count)}, {in_words(number)}",
                connections=number,
                processes=count,
            )
            for count in processes
            for number in connections
        ]
    )


if __name__ == "__main__":
    processes()
