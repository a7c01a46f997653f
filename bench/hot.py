"""One wallet that everybody pays, or that pays everybody: `python -m bench.hot`."""

from bench.command import benchmark, connections_option, processes_option, wallets_option
from bench.load import Shape
from bench.stage import Case, Stage, in_words

_SHAPES = {
    "random pairs": Shape(),
    "one sender": Shape(senders=1),
    "one receiver": Shape(receivers=1),
    "deposits to one wallet": Shape(steps=("deposit",), senders=1),
}


@benchmark
@connections_option(256)
@processes_option()
@wallets_option(10_000)
def hot(stage: Stage, connections: tuple[int, ...], processes: int, wallets: int) -> None:
    """One hot wallet that sends, receives or is deposited to, beside transfers between random wallets."""
    stage.settle(wallets)
    stage.measure(
        [
            Case(
                name=f"{name}, {in_words(number)}",
                shape=shape,
                unit="deposits" if "deposit" in shape.steps else "transfers",
                connections=number,
                processes=processes,
            )
            for name, shape in _SHAPES.items()
            for number in connections
        ]
    )


if __name__ == "__main__":
    hot()
