"""Transfers among reads: `python -m bench.mixed`."""

from bench.command import benchmark, connections_option, processes_option, wallets_option
from bench.load import Shape
from bench.stage import Case, Stage, in_words

_HALF_READS = Shape(steps=("transfer", "wallets", "transfer", "history"), query="?limit=20")


@benchmark
@connections_option(64, 256)
@processes_option()
@wallets_option(10_000)
def mixed(stage: Stage, connections: tuple[int, ...], processes: int, wallets: int) -> None:
    """Half transfers between random wallets, half reads: all wallets of a person, or 20 transactions of one wallet."""
    stage.settle(wallets)
    stage.measure(
        [
            Case(
                name=in_words(number),
                shape=_HALF_READS,
                unit="requests",
                connections=number,
                processes=processes,
            )
            for number in connections
        ]
    )


if __name__ == "__main__":
    mixed()
