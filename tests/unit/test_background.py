"""Loops in the background: a failure pauses them, with growing pauses, and is said once."""

import asyncio
import logging

import pytest
from asyncpg.exceptions import InvalidAuthorizationSpecificationError
from redis.exceptions import ReadOnlyError

from actors.engine import trouble
from actors.engine.background import in_background
from actors.engine.trouble import LONGEST_PAUSE_SECONDS, Trouble
from tests.helpers.waiting import until

log = logging.getLogger("actors.test")


async def test_a_loop_that_fails_pauses_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(trouble, "LONGEST_PAUSE_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "actors")
    attempts = 0
    errors = [InvalidAuthorizationSpecificationError("role is not permitted"), ZeroDivisionError("a bug")]

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 40:
            raise errors[attempts % 2]
        await asyncio.sleep(0.001)

    async with in_background(work):
        await until(lambda: attempts > 50)
    told = [(record.levelno, bool(record.exc_info)) for record in caplog.records if "work" in record.getMessage()]
    assert told == [(logging.ERROR, True), (logging.WARNING, False), (logging.INFO, False)]


def test_pauses_grow_to_some_seconds_and_begin_anew_after_a_success(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actors")
    looking = Trouble(log, "Looking")
    pauses = [looking.met(ReadOnlyError()) for _ in range(2_000)]
    assert pauses[0] < 1 < LONGEST_PAUSE_SECONDS == pauses[-1]
    assert pauses == sorted(pauses)
    for _ in range(1_000):  # it comes and goes
        looking.over()
        assert looking.met(ReadOnlyError()) == pauses[0]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
