"""What a run is like: how many processes and clients, how they are configured, how much goes wrong and how often."""

from msgspec import Struct

from actors.bank import Limits
from actors.engine.locks import Lease
from tests.simulation.world import World


class Weather(Struct):
    """How the network and the servers behave at the moment. All are probabilities, but for the seconds."""

    slow_seconds: float = 0.002
    """What a message takes at most, mostly."""
    very_slow: float = 0.0
    """A message takes up to a second."""
    statement_lost: float = 0.0
    commit_lost: float = 0.0
    redis_lost: float = 0.0
    wake_up_lost: float = 0.0


class Plan(Struct, kw_only=True):
    """One seed's way of life."""

    calm: bool
    """Nothing goes wrong, and nothing happens by a timer: whoever waits must be woken."""
    processes: int
    clients: int
    wishes: int  # of each client
    wallets: int
    limits: Limits
    lease: Lease
    pool: int
    weather: Weather
    misfortunes: int
    rivals: bool = False
    """Everybody wants one wallet."""


def calm(world: World) -> Plan:
    """A good day: all that can go wrong here is our own doing."""
    chance = world.chance
    return Plan(
        calm=True,
        processes=chance.randint(1, 3),
        clients=chance.randint(2, 10),
        wishes=chance.randint(2, 6),
        wallets=chance.randint(2, 6),
        limits=_limits(world, deadline_seconds=600.0),
        lease=Lease(retry_seconds=3600, reservation_seconds=600, lease_seconds=600, shards=chance.choice([1, 1, 3])),
        pool=10,
        weather=Weather(slow_seconds=world.between(0.0002, 0.02)),
        misfortunes=0,
        rivals=world.happens(0.3),
    )


def stormy(world: World) -> Plan:
    """A bad day."""
    chance = world.chance
    lossy = [world.chance.choice([0.0, 0.01, 0.05, 0.2]) for _ in range(5)]
    return Plan(
        calm=False,
        processes=chance.randint(1, 3),
        clients=chance.randint(2, 8),
        wishes=chance.randint(2, 6),
        wallets=chance.randint(2, 6),
        limits=_limits(world, deadline_seconds=chance.choice([0.3, 1.0, 10.0])),
        lease=Lease(
            lease_seconds=chance.choice([0.05, 0.5, 3.0]),
            answer_seconds=chance.choice([0.05, 0.5]),
            shards=chance.choice([1, 1, 3]),
        ),
        pool=chance.choice([2, 3, 10]),
        weather=Weather(
            world.between(0.0005, 0.05), *(each / scale for each, scale in zip(lossy, (4, 2, 1, 1, 1), strict=True))
        ),
        misfortunes=chance.randint(0, 8),
    )


def _limits(world: World, deadline_seconds: float) -> Limits:
    chance = world.chance
    return Limits(
        lanes=chance.choice([1, 1, 2, 3]),
        batch_max=chance.choice([1, 2, 5, 500]),
        wallet_mailbox_max=chance.choice([3, 2_000, 2_000]),
        mailbox_max=chance.choice([8, 10_000, 10_000]),
        deadline_seconds=deadline_seconds,
        patience_seconds=chance.choice([1.0, 10.0]),
        drain_seconds=chance.choice([0.2, 20.0, 20.0]),
        numbers_max=chance.choice([1, 3, 200_000]),
    )


def plan(world: World) -> Plan:
    """Draw a day."""
    return calm(world) if world.happens(0.35) else stormy(world)
