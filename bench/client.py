"""The load client for machines without wrk: raw sockets on one event loop. It takes more of the cores than wrk does."""

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, cycle
from typing import NamedTuple, cast

import uvloop
from msgspec import Struct, field

from bench.load import LATE_SECONDS, Load, Run, Step


class TimedAnswer(NamedTuple):
    """One that came in time."""

    connection: int
    status: int
    asked_at: float  # on time.perf_counter()'s clock
    seconds: float


class Tally(Struct):
    """What all connections have seen together."""

    started_at: float  # as `TimedAnswer.asked_at`
    ends_at: float
    answers: list[TimedAnswer] = field(default_factory=list)
    broken: int = 0
    late: int = 0
    sample: str = ""

    @property
    def run(self) -> Run:
        """Counts, percentiles in milliseconds, and statuses."""
        took = sorted(answer.seconds for answer in self.answers) or [0.0]
        p50, p90, p99, most = (round(percentile(took, part) * 1000, 3) for part in (0.5, 0.9, 0.99, 1))
        statuses = Counter(answer.status for answer in self.answers)
        return Run(
            seconds=self.ends_at - self.started_at,
            statuses={str(status): number for status, number in statuses.items()},
            broken=self.broken,
            late=self.late,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            max_ms=most,
            sample=self.sample,
        )


def percentile(in_order: Sequence[float], part: float) -> float:
    """The value below which this part of them lies."""
    return in_order[int((len(in_order) - 1) * part)]


class _Requests:
    """The requests of a load, one after another: what `init` and `request` are in `wrk.lua`."""

    def __init__(self, load: Load) -> None:
        self._shape = shape = load.shape
        self._key = f"{secrets.token_hex(12)}-"
        self._numbers = count(1)
        self._choose = random.Random().randrange
        self._ids: list[str] = []
        self._tails: list[str] = []
        self._items: list[str] = []
        with load.holders.open() as lines:
            for line in lines:
                id, number, token = line.split()
                if len(self._ids) < shape.senders and token != "-":
                    self._ids.append(id)
                    self._tails.append(
                        f" HTTP/1.1\r\nHost: {load.host}\r\nContent-Type: application/json\r\n"
                        f"Authorization: Bearer {token}"
                    )
                if len(self._items) < shape.receivers:
                    self._items.append(f'{{"wallet_number":"{number}","amount":"1.00"}}')
        builders: dict[Step, Callable[[], str]] = {
            "transfer": self._transfer,
            "deposit": lambda: self._payment(self._choose(len(self._ids)), "deposit", '{"amount":"1.00"}'),
            "bulk": lambda: self._bulk("}"),
            "atomic": lambda: self._bulk(',"atomic":true}'),
            "wallets": lambda: f"GET /users/wallets/{self._tails[self._choose(len(self._ids))]}\r\n\r\n",
            "history": self._history,
        }
        self._steps = cycle([builders[step] for step in shape.steps])

    def __next__(self) -> bytes:
        return next(self._steps)().encode()

    def _transfer(self) -> str:
        sender = self._payer()
        return self._payment(sender, "transfer", self._items[self._other(sender)])

    def _bulk(self, rest: str) -> str:
        sender = self._payer()
        items = ",".join([self._items[self._other(sender)] for _ in range(self._shape.items)])
        return self._payment(sender, "transfers", f'{{"transfers":[{items}]{rest}')

    def _history(self) -> str:
        reader = self._choose(len(self._ids))
        return f"GET /users/wallets/{self._ids[reader]}/transactions/{self._shape.query}{self._tails[reader]}\r\n\r\n"

    def _payment(self, sender: int, route: str, body: str) -> str:
        return (
            f"POST /users/wallets/{self._ids[sender]}/{route}/{self._tails[sender]}\r\n"
            f"Idempotency-Key: {self._key}{next(self._numbers):08}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )

    def _payer(self) -> int:
        """Who pays: not the only receiver, who is the first of the file."""
        return self._choose(int(len(self._items) == 1), len(self._ids))

    def _other(self, sender: int) -> int:
        """Who is paid: somebody else."""
        receiver = sender
        while receiver == sender:
            receiver = self._choose(len(self._items))
        return receiver


class _Connection(asyncio.Protocol):
    """One client: asks, waits for the answer, asks again until the time is over."""

    def __init__(self, number: int, requests: _Requests, tally: Tally) -> None:
        self._number = number
        self._requests = requests
        self._tally = tally
        self._received = b""
        self._asked_at = 0.0
        self._transport: asyncio.Transport
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < int(length):
            return
        now = time.perf_counter()
        if now > self._tally.ends_at:
            self._end()
            return
        status = int(head[9:12])
        self._tally.answers.append(TimedAnswer(self._number, status, self._asked_at, now - self._asked_at))
        if status not in (200, 201) and not self._tally.sample:
            self._tally.sample = body.decode(errors="replace")
        self._received = b""
        self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.over.done():
            self._tally.broken += 1
            self._end()

    def end(self) -> None:
        """Stop waiting; a request that has been under way for too long counts as late."""
        if not self.over.done():
            self._tally.late += time.perf_counter() - self._asked_at > LATE_SECONDS
            self._end()

    def _ask(self) -> None:
        self._asked_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def _end(self) -> None:
        self.over.set_result(None)
        self._transport.close()


def drive(load: Load) -> Run:
    """Send the load for its time and count what comes back."""
    return drive_and_tell(load).run


def drive_and_tell(load: Load) -> Tally:
    """As `drive`, but every single answer is kept."""
    return uvloop.run(_drive(load))


async def _drive(load: Load) -> Tally:
    loop = asyncio.get_running_loop()
    requests = _Requests(load)
    tally = Tally(started_at=time.perf_counter(), ends_at=time.perf_counter() + load.seconds)
    connections: list[_Connection] = []
    for number in range(load.connections):
        try:
            client = partial(_Connection, number, requests, tally)
            _, connection = await loop.create_connection(client, load.host, load.port)
            connections.append(connection)
        except OSError:
            tally.broken += 1
    if connections:
        await asyncio.wait([connection.over for connection in connections], timeout=tally.ends_at - time.perf_counter())
    tally.ends_at = time.perf_counter()
    for connection in connections:
        connection.end()
    return tally
