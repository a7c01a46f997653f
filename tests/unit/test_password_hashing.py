"""Passwords are hashed beside the event loop, a bounded number at a time."""

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest
from argon2 import PasswordHasher, extract_parameters

from actors.refusals import Overloaded
from app.http.problems import ValidationFailed
from app.limits.threads import Threads
from app.people.passwords.hashing import Passwords, is_outdated
from app.people.passwords.policy import check_common


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords()
    yield passwords
    passwords.close()


async def test_a_hash_is_at_or_above_the_recommended_floor(passwords: Passwords) -> None:
    parameters = extract_parameters(await passwords.hash("correct horse"))
    assert parameters.type.name == "ID"
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)


async def test_only_the_password_matches(passwords: Passwords) -> None:
    hashed = await passwords.hash("correct horse")
    assert hashed != await passwords.hash("correct horse")
    assert await passwords.match(hashed, "correct horse")
    assert not await passwords.match(hashed, "correct horsf")
    assert not await passwords.match(None, "correct horse")
    assert not await passwords.match("not a hash", "correct horse")


async def test_the_loop_goes_on_meanwhile(passwords: Passwords) -> None:
    turns: list[int] = []
    for _ in range(9):
        hashing = asyncio.create_task(passwords.hash("correct horse"))
        turns.append(0)
        while not hashing.done():
            await asyncio.sleep(0)
            turns[-1] += 1
        await hashing
    assert sorted(turns)[4] > 20, f"it stood still, or nearly: {turns}"


async def test_beyond_what_may_wait_calls_are_refused_at_once() -> None:
    threads, release = Threads("test", count=1, waiting_max=2), Event()
    waiting = [asyncio.create_task(threads.run(release.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await threads.run(release.wait)
    release.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await threads.run(abs, -1) == 1
    threads.close()


@pytest.mark.parametrize(
    ("memory", "passes", "outdated"), [(19_456, 2, False), (8_192, 2, True), (19_456, 1, True), (65_536, 3, False)]
)
def test_only_a_hash_of_less_work_is_outdated(memory: int, passes: int, outdated: bool) -> None:
    hashed = PasswordHasher(memory_cost=memory, time_cost=passes, parallelism=1).hash("correct horse")
    assert is_outdated(hashed) == outdated
    assert not is_outdated("no hash")


@pytest.mark.parametrize("password", ["password", "PassWord1", "qwertyuiop", "1234567890", "iloveyou1"])
def test_a_common_password_is_refused_however_it_is_written(password: str) -> None:
    with pytest.raises(ValidationFailed, match="most common"):
        check_common(password, field="password")
    check_common(f"{password} and a horse", field="password")
