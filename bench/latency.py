"""How long one transfer takes where there is no crowd: `python -m bench.latency`."""

from bench.command import benchmark, connections_option, wallets_option
from bench.stage import Case, Stage, processes_in_words

# One is what `wallet serve` starts; with two, few requests make smaller batches.
_PROCESSES = (1, 2)


@benchmark
@connections_option(1, 8)
@wallets_option(10_000)
def latency(stage: Stage, connections: tuple[int, ...], wallets: int) -> None:
    """Transfers between random wallets, few at a time, through one API process and through two."""
    stage.settle(wallets)
    stage.measure(
        [
            Case(
                name=f"{number} in flight, {processes_in_words(count)}",
                connections=number,
                processes=count,
            )
            for count in _PROCESSES
            for number in connections
        ]
    )


if __name__ == "__main__":
    latency()
