"""What clients see where Redis or PostgreSQL is away, and where there is too much: `python -m bench.outages`."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Event, Thread
from typing import Literal, get_args
from urllib.error import HTTPError
from urllib.request import urlopen

import click
from msgspec import Struct

from bench.api import Api, api
from bench.client import Tally, TimedAnswer, drive_and_tell
from bench.command import benchmark, connections_option, wallets_option
from bench.proc import family, largest_mib, processes
from bench.stage import PAUSE_SECONDS, Case, Stage, in_words

_PROCESSES = 2
_WARM_UP, _BEFORE, _AWAY, _AFTER = 4, 3, 4, 6  # seconds
_MAILBOX = "WALLET_BANK_MAILBOX_MAX"
_TIMES = 5
_PARTS = {"Valkey": "redis", "PostgreSQL": "database"}

_WATCH_SECONDS = 0.02

Said = list[tuple[float, str]]
"""When /health/ready was asked, on time.perf_counter()'s clock, and what it said of one part: "ok" or "down"."""

How = Literal["killed", "stopped"]
"""Killed, and started again; or all its processes stopped, so that it takes connections and answers nothing."""

_OUTAGES: tuple[tuple[str, How], ...] = tuple((server, how) for server in _PARTS for how in get_args(How))


@benchmark
@connections_option(64)
@wallets_option(10_000)
def outages(stage: Stage, connections: tuple[int, ...], wallets: int) -> None:
    """Redis and PostgreSQL killed and silent under load, and five times as many clients as orders may wait."""
    stage.settle(wallets)
    with ProcessPoolExecutor(1, get_context("spawn")) as clients:  # what they cost must not hold up who watches
        for number in connections:
            for server, how in _OUTAGES:
                with stage.beside_baseline():
                    _survive(stage, clients, server, how, number)
            with stage.beside_baseline():
                _refuse(stage, clients, number)


class _Seen(Struct, frozen=True, kw_only=True):
    """One outage. Times are on time.perf_counter()'s clock."""

    tally: Tally
    gone_at: float
    back_at: float  # it takes connections again
    noticed: float | None  # seconds until /health/ready said so
    forgotten: float | None  # seconds from then until it said so no more

    def between(self, start: float, end: float) -> list[TimedAnswer]:
        """What was asked for in that time, and answered."""
        return [answer for answer in self.tally.answers if start <= answer.asked_at < end]

    @property
    def phases(self) -> dict[str, tuple[list[TimedAnswer], float]]:
        """Answers and seconds before it, without it and with it again."""
        tally = self.tally
        spans = {
            "before": (tally.started_at, self.gone_at),
            "away": (self.gone_at, self.back_at),
            "back": (self.back_at, tally.ends_at),
        }
        return {name: (self.between(*span), span[1] - span[0]) for name, span in spans.items()}

    @property
    def waits(self) -> list[float]:
        """For each client, the seconds from the return until it had money moved."""
        first: dict[int, float] = {}
        for answer in self.tally.answers:
            if answer.status == 201 and answer.asked_at + answer.seconds > self.back_at:
                first.setdefault(answer.connection, answer.asked_at + answer.seconds - self.back_at)
        return sorted(first.values())


def _survive(stage: Stage, clients: ProcessPoolExecutor, server: str, how: How, connections: int) -> None:
    """Take it away, as often as there are runs, and bring it back."""
    part = _PARTS[server]
    case = Case(
        name=f"{server} {how}, {in_words(connections)}",
        connections=connections,
        processes=_PROCESSES,
        expected=("503",) if part == "database" else (),
    )
    found = []
    with stage.accounting() as driven, api(stage.place, processes=_PROCESSES, secret=stage.secret) as served:
        warm_up = stage.load(case, served, seconds=_WARM_UP)
        driven.append((case, clients.submit(drive_and_tell, warm_up).result().run))
        for _ in range(stage.runs):
            load = stage.load(case, served, seconds=_BEFORE + _AWAY + _AFTER)
            with _watched(served, part) as said:
                driving = clients.submit(drive_and_tell, load)
                time.sleep(_BEFORE)
                gone_at, back_at = _away(stage, server, how)
                tally = driving.result()
            driven.append((case, tally.run))
            noticed, forgotten = _changes(said, gone_at, back_at)
            seen = _Seen(tally=tally, gone_at=gone_at, back_at=back_at, noticed=noticed, forgotten=forgotten)
            found.append(seen)
            click.echo(_in_words(seen, f"{server} {how}"))
            time.sleep(PAUSE_SECONDS)
    stage.notes += [_in_words(seen, f"{server} {how}") for seen in found]
    for phase in ("before", "away", "back"):
        stage.results.append(
            stage.result_of_answers(f"{server} {how}: {phase}", case, [seen.phases[phase] for seen in found])
        )


def _away(stage: Stage, name: str, how: How) -> tuple[float, float]:
    """From when it was away, and from when it was back."""
    server = next(each for each in stage.place.servers if each.name == name)
    assert server.process
    gone_at = time.perf_counter()
    if how == "killed":
        server.process.kill()
        server.process.wait()
        time.sleep(_AWAY)
        server.start()
        return gone_at, time.perf_counter()
    os.kill(server.process.pid, signal.SIGSTOP)  # it first, so that it has no more children afterwards
    stopped = family(server.process.pid, processes())
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(_AWAY)
    back_at = time.perf_counter()
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    return gone_at, back_at


def _changes(said: Said, gone_at: float, back_at: float) -> tuple[float | None, float | None]:
    down = [at for at, status in said if status != "ok" and at >= gone_at]
    well = [at for at, status in said if status == "ok" and at > max(down, default=back_at)]
    return (min(down) - gone_at if down else None), (max(min(well) - back_at, 0) if down and well else None)


def _in_words(seen: _Seen, outage: str) -> str:
    answers = [answer for answer in seen.tally.answers if answer.asked_at + answer.seconds > seen.gone_at]
    refused = sum(answer.status == 503 for answer in answers)
    longest = max((answer.seconds for answer in answers), default=0)
    waits = seen.waits or [float("nan")]
    return (
        f"{outage} for {seen.back_at - seen.gone_at:.1f} s: from then on {len(answers) - refused} requests were"
        f" answered 201 and {refused} 503, the slowest after {longest:.2f} s. Once the server accepted connections"
        f" again, the first client had moved money after {waits[0]:.2f} s and the last of {len(waits)} after"
        f" {waits[-1]:.2f} s. /health/ready reported the outage after {_seconds(seen.noticed)}, and its end"
        f" {_seconds(seen.forgotten)} after the return."
    )


def _seconds(measured: float | None) -> str:
    return "never" if measured is None else f"{measured:.2f} s"


def _refuse(stage: Stage, clients: ProcessPoolExecutor, most: int) -> None:
    """As many clients as orders may wait, and then five times as many, each of whom asks again at once."""
    os.environ[_MAILBOX] = str(most)
    cases = [
        Case(name=in_words(number), connections=number, processes=1, expected=("503",))
        for number in (most, _TIMES * most)
    ]
    found: list[list[Tally]] = [[] for _ in cases]
    memory = [0.0 for _ in cases]
    try:
        with stage.accounting() as driven, api(stage.place, processes=1, secret=stage.secret) as served:
            for turn in range(-1, stage.runs):  # the first warms up
                for nth, case in enumerate(cases):
                    load = stage.load(case, served, seconds=stage.seconds)
                    tally = clients.submit(drive_and_tell, load).result()
                    driven.append((case, tally.run))
                    if turn >= 0:
                        found[nth].append(tally)
                        memory[nth] = largest_mib(served.pid)
                    time.sleep(PAUSE_SECONDS)
    finally:
        del os.environ[_MAILBOX]
    for nth, case in enumerate(cases):
        for status, kind in ((201, "accepted"), (503, "refused")):
            phases = [
                ([answer for answer in tally.answers if answer.status == status], tally.ends_at - tally.started_at)
                for tally in found[nth]
            ]
            if any(answers for answers, _ in phases):
                stage.results.append(
                    stage.result_of_answers(f"{most} may wait: {case.name}, {kind}", case, phases, memory=memory[nth])
                )


@contextmanager
def _watched(served: Api, part: str) -> Iterator[Said]:
    """Note what /health/ready says of one part, again and again, as long as the block runs."""
    said: Said = []
    over = Event()

    def ask_again_and_again() -> None:
        while not over.wait(_WATCH_SECONDS):
            asked_at = time.perf_counter()
            said.append((asked_at, _status(served, part)))

    thread = Thread(target=ask_again_and_again)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()


def _status(served: Api, part: str) -> str:
    try:
        answer = urlopen(f"http://{served.host}:{served.port}/health/ready", timeout=30)
    except HTTPError as not_ready:
        answer = not_ready
    with answer:
        status: str = json.load(answer)["checks"][part]["status"]
    return status


if __name__ == "__main__":
    outages()
