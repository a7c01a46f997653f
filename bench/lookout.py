"""What `/health/ready` says of one part, again and again, while other things are done to it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.request import urlopen

from bench.api import Api

_PAUSE_SECONDS = 0.02

# When it was asked, on time.perf_counter()'s clock, and what it said: "ok" or "down".
Said = list[tuple[float, str]]


@contextmanager
def watched(served: Api, part: str) -> Iterator[Said]:
    """Note what is said as long as the block runs."""
    said: Said = []
    over = Event()

    def look() -> None:
        while not over.wait(_PAUSE_SECONDS):
            asked_at = time.perf_counter()
            said.append((asked_at, _status(served, part)))

    thread = Thread(target=look)
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
