"""`wallet user export` and `wallet user erase`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

from app.commands.output import open_redis
from app.people.lookup import find_person
from app.people.personal_data import clean_up_after, erase, export, private_file
from app.settings import Settings


async def export_person(settings: Settings, person: str, output: str | None) -> None:
    """Write a person's document to a new file, or to standard output."""
    user_id = await find_person(person, phone_region=settings.phone_region)
    with private_file(Path(output)) if output else nullcontext(sys.stdout) as out:
        await export(user_id, out, media_folder=Path(settings.media_folder))


async def erase_person(settings: Settings, person: str) -> UUID:
    """Erase a person; their id."""
    erased = await erase(await find_person(person, phone_region=settings.phone_region))
    async with open_redis(settings) as redis:
        await clean_up_after(erased, media_folder=Path(settings.media_folder), redis=redis)
    return erased.user_id
