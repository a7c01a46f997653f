"""Image files that no row names: left by a process that died between storing one and naming it, or removing one."""

import asyncio
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from db.tables import User

BATCH = 5_000
PAUSE_SECONDS = 0.05
# A file is stored before the row that names it is committed. That takes moments; this leaves a day.
YOUNG_SECONDS = 86_400
# What `app/images.py` names its files. Whatever else lies in the folder is not ours to delete.
_OURS = re.compile(r"[0-9a-f]{32}\.(?:png|jpg|webp)")

_NAMELESS = """
SELECT name FROM unnest({}::text[]) AS file(name)
WHERE NOT EXISTS (SELECT 1 FROM "user" WHERE "profile_image" = file.name)
"""


async def forget_images(folder: Path) -> int:
    """Delete the images that have been nobody's for a day; how many. A folder that is not there has none."""
    total, files = 0, await asyncio.to_thread(_old_files, folder)
    while batch := list(islice(files, BATCH)):
        rows = await User.raw(_NAMELESS, batch)
        await asyncio.to_thread(_unlink, folder, [row["name"] for row in rows])
        total += len(rows)
        await asyncio.sleep(PAUSE_SECONDS)
    return total


def _old_files(folder: Path) -> Iterator[str]:
    before = time.time() - YOUNG_SECONDS
    if not folder.is_dir():
        return iter(())
    names = [path.name for path in folder.iterdir() if _OURS.fullmatch(path.name) and path.stat().st_mtime < before]
    return iter(names)


def _unlink(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
