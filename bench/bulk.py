"""Many transfers in one request: `python -m bench.bulk`."""

from bench.command import benchmark, connections_option, processes_option, wallets_option
from bench.load import Shape
from bench.stage import Case, Stage, in_words

# With the connections that keep it busy, and no more transfers in flight than one process lets wait (10 000).
_SHAPES = (
    ("10 a request", Shape(steps=("bulk",), items=10), 32),
    ("100 a request", Shape(steps=("bulk",), items=100), 16),
    ("1000 a request", Shape(steps=("bulk",), items=1000), 8),
    ("100 a request, atomic", Shape(steps=("atomic",), items=100), 16),
)


@benchmark
@connections_option()
@processes_option()
@wallets_option(10_000)
def bulk(stage: Stage, connections: tuple[int, ...], processes: int, wallets: int) -> None:
    """
    Transfers between random wallets: 10, 100 and 1 000 in one request, and 100 all or none.

    Without --connections each has as many as suit it.
    """
    stage.settle(wallets)
    stage.measure(
        [
            Case(name=f"{name}, {in_words(number)}", shape=shape, connections=number, processes=processes)
            for name, shape, usual in _SHAPES
            for number in connections or (usual,)
        ]
    )


if __name__ == "__main__":
    bulk()
