"""The run: a town, a crowd, a storm, and the verdict."""

import asyncio
import statistics
from collections import Counter
from datetime import datetime
from random import Random
from time import monotonic

import click
from msgspec import Struct, field

from app.proof.clients import Crowd, connections
from app.proof.faults import MONTH, Recovery, Storm
from app.proof.office import Office
from app.proof.town import settle, town, use
from app.proof.verdict import Verdict, already_there, judge, judge_doubts
from app.proof.wishes import Holder
from db.tables import Wallet

_PEOPLE = 8
_OPERATORS = 2
_TELL_SECONDS = 10.0


class Endured(Struct, frozen=True, kw_only=True):
    """One kind of fault: how often, and how long until somebody was served again, once it was mended."""

    fault: str
    times: int
    median_seconds: float | None
    longest_seconds: float | None
    nobody_served_seconds: float
    """The longest time in which nobody at all was served, from its beginning on."""


class Proof(Struct, kw_only=True):
    """What a run has seen. `holds`: nothing was lost or doubled, and nothing else was found."""

    holds: bool
    seed: int
    seconds: float
    faults: int
    endured: list[Endured]
    wishes: int
    requests: int
    made: int  # payments: a bulk asks for many
    refused: dict[str, int]
    acts: dict[str, int]  # of staff, that were carried out
    months: int  # that have passed, with a fee each
    repeated: int  # requests that were sent again
    broken: int  # requests that were sent, and not answered
    put_off: int  # requests that were answered 503
    in_doubt: int  # wishes whose client had left without an answer
    in_doubt_done: int  # of those, how many had happened, before their clients came back
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


async def prove(*, minutes: float, seed: int, processes: int, clients: int) -> Proof:
    """
    Break things for so long, then let every client learn what became of its payments, and judge.

    The same seed gives the same payments and faults in the same order; when they meet is the machine's.

    Raises:
        EmbeddedError: a server or a process does not start.
    """
    chance = Random(seed)
    async with town(processes=processes) as place, connections() as http, connections() as staff:
        use(place.database_url)
        holders = await settle(_PEOPLE, place.environment, chance)
        due_before = await _due(holders)
        ports = [api.port for api in place.apis if api.port]
        crowd = Crowd(ports=ports, holders=holders, chance=Random(chance.random()), prefix=f"proof-{seed}")
        storm = Storm(town=place, crowd=crowd, chance=Random(chance.random()), http=http)
        office = Office(crowd=crowd, chance=Random(chance.random()), http=staff)
        await office.open()
        began_at = monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(crowd.live(http))
            for _ in range(_OPERATORS):
                tasks.create_task(office.work())
            tasks.create_task(storm.rage())
            tasks.create_task(storm.cut_commits())
            await _wait(minutes * 60, crowd, storm)
            crowd.over = True
        seconds = monotonic() - began_at
        place.cable.faults.clear()
        left = [wish for wish in crowd.wishes if wish.state == "unanswered"]
        doubtful = [wish for wish in left if wish.in_doubt]
        done = await already_there(doubtful)
        early = await judge_doubts(crowd.wishes, office.acts)
        await asyncio.gather(*(crowd.pursue(http, wish, leaves=False) for wish in left))
        await asyncio.gather(*(office.pursue(act, leaves=False) for act in office.acts))
        due = {id: due_at - storm.months * MONTH for id, due_at in due_before.items()}
        verdict = await judge(crowd.wishes, office.acts, holders, due)
        verdict.doubled += early.doubled
        verdict.other += crowd.unexpected
        acts = Counter[str](act.kind for act in office.acts if act.state == "made")
        return _proof(
            seed, seconds, crowd, storm, verdict, acts=dict(acts), in_doubt=len(doubtful), in_doubt_done=len(done)
        )


def told(proof: Proof) -> str:
    """The proof as text."""
    lines = [f"{'fault':44} {'times':>6} {'median s':>9} {'longest s':>10} {'nobody served s':>16}"]
    for each in proof.endured:
        times = (each.median_seconds, each.longest_seconds)
        median, longest = ("" if seconds is None else f"{seconds:.2f}" for seconds in times)
        nobody = f"{each.nobody_served_seconds:.2f}"
        lines.append(f"{each.fault:44} {each.times:6} {median:>9} {longest:>10} {nobody:>16}")
    refused = ", ".join(f"{number} {code}" for code, number in sorted(proof.refused.items())) or "none"
    lines += [
        "",
        f"{proof.faults} faults in {proof.seconds:.0f} s, seed {proof.seed}.",
        f"{proof.wishes} wishes in {proof.requests} requests: {proof.made} payments made, refused: {refused}.",
        f"Staff: {', '.join(f'{number} times {kind}' for kind, number in sorted(proof.acts.items())) or 'nothing'}.",
        f"{proof.months} months have passed, with a fee each.",
        f"{proof.broken} requests broke off, {proof.put_off} were put off with 503, {proof.repeated} were repetitions.",
        f"{proof.in_doubt} wishes stayed in doubt until their clients came back; {proof.in_doubt_done} had happened.",
        f"Lost: {len(proof.lost)}. Doubled: {len(proof.doubled)}. Other findings: {len(proof.other)}.",
    ]
    lines += [f"  {finding}" for finding in (*proof.lost, *proof.doubled, *proof.other)[:50]]
    return "\n".join(lines)


async def _wait(seconds: float, crowd: Crowd, storm: Storm) -> None:
    """So long, telling now and then how it goes."""
    ends_at = monotonic() + seconds
    while (left := ends_at - monotonic()) > 0:
        await asyncio.sleep(min(_TELL_SECONDS, left))
        faults = sum(map(len, storm.recoveries.values()))
        click.echo(
            f"{len(crowd.served)} payments answered, {faults} faults, {max(left - _TELL_SECONDS, 0):.0f} s to go"
        )


async def _due(holders: list[Holder]) -> dict[int, datetime]:
    rows = await Wallet.select(Wallet.id, Wallet.fee_due_at).where(
        Wallet.id.is_in([each.wallet_id for each in holders])
    )
    return {row["id"]: row["fee_due_at"] for row in rows}


def _proof(
    seed: int,
    seconds: float,
    crowd: Crowd,
    storm: Storm,
    verdict: Verdict,
    *,
    acts: dict[str, int],
    in_doubt: int,
    in_doubt_done: int,
) -> Proof:
    wishes = crowd.wishes
    requests = sum(wish.sent for wish in wishes)
    return Proof(
        holds=verdict.holds,
        seed=seed,
        seconds=round(seconds, 1),
        faults=sum(map(len, storm.recoveries.values())),
        endured=[_endured(name, recoveries) for name, recoveries in sorted(storm.recoveries.items())],
        wishes=len(wishes),
        requests=requests,
        made=sum(len(wish.made) for wish in wishes),
        refused=dict(Counter(code for wish in wishes for code in wish.codes)),
        acts=acts,
        months=storm.months,
        repeated=requests - len(wishes),
        broken=sum(wish.broken for wish in wishes),
        put_off=sum(wish.put_off for wish in wishes),
        in_doubt=in_doubt,
        in_doubt_done=in_doubt_done,
        lost=verdict.lost,
        doubled=verdict.doubled,
        other=verdict.other,
    )


def _endured(name: str, recoveries: list[Recovery]) -> Endured:
    known = [each.seconds for each in recoveries if each.seconds is not None]
    return Endured(
        fault=name,
        times=len(recoveries),
        median_seconds=round(statistics.median(known), 3) if known else None,
        longest_seconds=round(max(known), 3) if known else None,
        nobody_served_seconds=round(max(each.nobody_served_seconds for each in recoveries), 3),
    )
