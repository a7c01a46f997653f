"""How long one transfer takes where there is no crowd: `python -m bench.latency`."""

from bench.command import benchmark, connections_option, processes_option, wallets_option
from bench.stage import Case, Stage


@benchmark
@connections_option(1, 8)
@processes_option()
@wallets_option(10_000)
def latency(stage: Stage, connections: tuple[int, ...], processes: int, wallets: int) -> None:
    """Transfers between random wallets, few at a time."""
    stage.settle(wallets)
    stage.measure([Case(name=f"{number} in flight", connections=number, processes=processes) for number in connections])


if __name__ == "__main__":
    latency()
