"""What the commands do that run once and end: each opens what it needs, and closes it."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from actors.bank import Bank
from actors.engine.locks import Locks
from app.people.lookup import find_person
from app.people.personal_data import clean_up_after, erase, export, private_file
from app.settings import Settings
from db.engine import connection_pool
from tasks.fees import FeesCharged, charge_due_fees
from tasks.rates.board import RateBoard, RatesFetched, fetch_rates
from tasks.worker import WorkerSettings


def worker_settings(settings: Settings) -> WorkerSettings:
    """The worker's part of the settings."""
    return WorkerSettings(**{name: getattr(settings, name) for name in WorkerSettings.__struct_fields__})


def json_line(summary: Struct) -> str:
    """A summary on one line."""
    return msgspec.json.encode(summary).decode()


async def charge_fees(settings: Settings) -> FeesCharged:
    """Charge what is due, with a bank of this process's own."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(_redis(settings))
        await stack.enter_async_context(connection_pool(settings.pool))
        board = RateBoard(redis, settings.rates, settings.development)
        await stack.enter_async_context(board.running())
        locks = Locks(settings.redis_url, settings.locks)
        await stack.enter_async_context(locks.running())
        bank = Bank(settings.bank, locks, board.current)
        await stack.enter_async_context(bank.running())
        with _progress() as progress:
            bar = progress.add_task("Fees", total=None)

            def show(run: FeesCharged, walked: int) -> None:
                progress.update(bar, completed=walked, total=max(run.due, walked))

            return await charge_due_fees(bank, board.current(), progress=show)


async def get_rates(settings: Settings, *, accept: bool) -> RatesFetched:
    """Fetch rates and publish them."""
    async with _redis(settings) as redis, connection_pool(settings.pool):
        with _progress() as progress:
            progress.add_task("Rates", total=None)
            return await fetch_rates(redis, settings.rates, development=settings.development, accept=accept)


async def export_person(settings: Settings, person: str, output: str | None) -> None:
    """Write a person's document to a new file, or to standard output."""
    user_id = await find_person(person, phone_region=settings.phone_region)
    with private_file(Path(output)) if output else nullcontext(sys.stdout) as out:
        await export(user_id, out, media_folder=Path(settings.media_folder))


async def erase_person(settings: Settings, person: str) -> UUID:
    """Erase a person; their id."""
    erased = await erase(await find_person(person, phone_region=settings.phone_region))
    async with _redis(settings) as redis:
        await clean_up_after(erased, media_folder=Path(settings.media_folder), redis=redis)
    return erased.user_id


@asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[Redis]:
    redis: Redis = Redis.from_url(settings.redis_url)
    try:
        yield redis
    finally:
        await redis.aclose()


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere; on stderr, since the summary on stdout is for programs."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
