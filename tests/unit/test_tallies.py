"""What a process counts by itself, held against a naive count: to the last request, in bounded memory."""

import asyncio
from collections import Counter
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from actors.refusals import Unavailable
from app.limits import tallies
from app.limits.requests import RateLimited, RateLimiter, RateLimits
from app.limits.tallies import Tallies
from app.limits.visitor import Visitor

KEYS_MAX = 6
LIMITS = RateLimits(sign_ins_per_phone=3, codes_per_phone=2, codes_per_email=0)
QUARTER, HOUR, DAY = 900, 3600, 86_400


class Naive:
    """A list of windows. Two policies: sign-ins by the quarter of an hour, codes by the hour and by the day."""

    def __init__(self) -> None:
        self.windows: list[list[float]] = []  # key, length, begun, counted

    def ask(self, policy: str, who: int, now: float) -> str:
        self.windows = [each for each in self.windows if each[2] + each[1] > now]
        wanted = [(QUARTER, 3)] if policy == "sign-in" else [(HOUR, 2), (DAY, 3)]
        found = [self._window(who, length, now) for length, _ in wanted]
        if any(window and window[3] >= most for window, (_, most) in zip(found, wanted, strict=True)):
            return "too many"
        if None in found:
            return "can't count"
        for window in found:
            assert window
            window[3] += 1
        return "passes"

    def _window(self, who: int, length: int, now: float) -> list[float] | None:
        for each in self.windows:
            if each[:2] == [who, length]:
                return each
        if len(self.windows) >= KEYS_MAX:
            return None
        self.windows.append([who, length, now, 0])
        return self.windows[-1]


asked = st.tuples(
    st.sampled_from(["sign-in", "code"]), st.integers(0, 6), st.sampled_from([0, 0, 0, 1, 450, 1799, 3600, 43_200])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(asked, max_size=40))
def test_without_redis_it_lets_through_refuses_and_gives_up_as_a_naive_count_does(
    requests: list[tuple[str, int, int]],
) -> None:
    async def run() -> None:
        now, naive = 0.0, Naive()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tallies, "monotonic", lambda: now)
            async with Redis.from_url("redis://127.0.0.1:1", retry=Retry(NoBackoff(), 0)) as nobody:
                limiter = RateLimiter(nobody, LIMITS, per_address=False)
                limiter._tallies = Tallies(KEYS_MAX)
                for policy, who, seconds in requests:
                    now += seconds
                    assert await answer(limiter, policy, who) == naive.ask(policy, who, now)
                    assert len(limiter._tallies) <= KEYS_MAX

    asyncio.run(run())


async def answer(limiter: RateLimiter, policy: str, who: int) -> str:
    phone_number, visitor = f"+7701000000{who}", Visitor(address="192.0.2.7")
    try:
        if policy == "sign-in":
            await limiter.sign_in(phone_number, visitor)
        else:
            await limiter.code(None, phone_number, visitor)
    except RateLimited:
        return "too many"
    except Unavailable:
        return "can't count"
    return "passes"


def test_a_table_that_was_full_is_not_emptied_in_one_go_nor_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(tallies, "monotonic", lambda: now)
    table = Tallies(1000)
    kept = Counter(table.of(f"{length}:{n}", length).kept for n in range(600) for length in (QUARTER, HOUR))
    assert kept == {True: 1000, False: 200}
    now, sizes = QUARTER, [len(table)]
    for n in range(1000):
        assert table.of(f"new:{n}", DAY).kept == (n < 500)
        sizes.append(len(table))
    assert max(sizes) == 1000
    assert min(sizes) > 700, "they go a few at a time"


@pytest.mark.parametrize(("length", "left"), [(QUARTER, QUARTER), (0.5, 1), (0, 1)])
def test_a_tally_says_for_how_long_it_lasts(monkeypatch: pytest.MonkeyPatch, length: float, left: int) -> None:
    monkeypatch.setattr(tallies, "monotonic", lambda: 7.0)
    tally = Tallies().of("key", QUARTER)
    tally.learn(others=4, milliseconds_left=ceil(length * 1000), known=False)
    assert (tally.seconds_left, tally.others) == (left, 4)
    tally.learn(others=4, milliseconds_left=DAY * 1000, known=True)
    assert (tally.seconds_left, tally.others) == (left, 4), "it never lasts longer"


def test_a_tally_takes_back_what_others_do_not_count_after_all_but_not_what_redis_has_lost() -> None:
    tally = Tallies().of("key", QUARTER)
    for others, known, left in ((4, False, 4), (2, True, 2), (5, True, 5), (0, False, 5), (1, True, 5), (6, True, 6)):
        tally.learn(others=others, milliseconds_left=1000, known=known)
        assert tally.others == left
