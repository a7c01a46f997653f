"""Transfers between random wallets, on more and more connections: `python -m bench.transfers`."""

from bench.command import benchmark, connections_option, processes_option, wallets_option
from bench.stage import Case, Stage, in_words


@benchmark
@connections_option(8, 32, 64, 128, 256, 512)
@processes_option()
@wallets_option(10_000)
def transfers(stage: Stage, connections: tuple[int, ...], processes: int, wallets: int) -> None:
    """Transfers between random wallets."""
    stage.settle(wallets)
    stage.measure([Case(name=in_words(number), connections=number, processes=processes) for number in connections])


if __name__ == "__main__":
    transfers()
