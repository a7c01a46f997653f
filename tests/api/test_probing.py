"""What a person can find out about other people's wallet numbers without paying them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from actors.refusals import Overloaded, Refusal
from app.limits.requests import RateLimits
from app.payments import paid_before, probing
from app.payments.paid_before import PaidBefore
from app.payments.probing import ProbingLimit
from app.proof.cable import Cable, cable
from app.settings import Settings
from db.tables import Wallet
from tests.helpers.banks import banks
from tests.helpers.purses import Purse, purses
from tests.helpers.refusals import refusal
from tests.helpers.users import OpenWallet, Wish, register

MOST = 6
Two = tuple[ProbingLimit, ProbingLimit]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, limits=RateLimits(unpaid_numbers_per_user=MOST))


def nobodys(count: int, *, first: int = 0) -> list[str]:
    return [f"00000{first + place:05}" for place in range(count)]


async def wallets(client: httpx.AsyncClient) -> tuple[OpenWallet, OpenWallet, OpenWallet]:
    """Alice's with money, and two of others: one that she has paid, one that she has not."""
    alice, bob, carol = [await register(client) for _ in range(3)]
    mine = await alice.open_wallet(holding="10000")
    paid, unpaid = await bob.open_wallet(), await carol.open_wallet()
    assert (await mine.send("1", paid)).status_code == 201
    return mine, paid, unpaid


async def test_beyond_so_many_only_numbers_that_were_paid_before_are_looked_for(client: httpx.AsyncClient) -> None:
    mine, paid, unpaid = await wallets(client)
    frozen = await (await register(client)).open_wallet()
    await Wallet.update({Wallet.frozen_at: datetime.now(UTC)}).where(Wallet.id == frozen.id)
    refusal(await mine.send("1", frozen), 400, "receiver_unavailable")
    for number in nobodys(MOST - 2) * 3 + nobodys(MOST - 1)[-1:]:  # each counts once
        refusal(await mine.send("1", number), 404, "wallet_not_found")
    targets: list[OpenWallet | str] = [unpaid, frozen, *nobodys(1, first=MOST), *nobodys(1)]
    answers = [await mine.send("1", to) for to in targets]
    for answer in answers:
        assert refusal(answer, 429, "rate_limited")["detail"].startswith("Of the wallet numbers that you have tried")
        assert answer.headers["RateLimit-Policy"] == f'"unpaid-numbers-per-user";q={MOST};w=86400'
        assert int(answer.headers["Retry-After"]) > 86_000
    assert len({answer.json()["detail"] for answer in answers}) <= 2, "but for the seconds that are left"
    own = await mine.owner.open_wallet("USD")
    assert (await mine.send("1", paid)).status_code == 201
    refusal(await mine.send("1000", own), 503, "rates_unavailable")  # looked for, and not refused as unpaid
    assert (await mine.withdraw("1")).status_code == 201
    assert (await paid.send("1", unpaid)).status_code == 201, "each person has a limit of their own"


async def test_who_could_not_pay_has_found_out_nothing(client: httpx.AsyncClient) -> None:
    mine, _, unpaid = await wallets(client)
    for number in nobodys(3 * MOST):
        refusal(await mine.send("999999", number), 400, "insufficient_funds")
        refusal(await mine.send_all([(number, "999999"), (unpaid, "1")], atomic=True), 400, "bulk_refused")
    assert (await mine.send("1", unpaid)).status_code == 201


@pytest.mark.parametrize("atomic", [False, True])
async def test_bulks_are_counted_when_they_are_answered_and_one_at_a_time(
    client: httpx.AsyncClient, atomic: bool
) -> None:
    """Of bulks that are sent at once, one at most goes beyond what is left."""
    mine, paid, unpaid = await wallets(client)
    bulks = [nobodys(MOST + 1, first=100 * place) for place in range(8)]
    answers = await asyncio.gather(
        *(mine.send_all([(number, "1") for number in numbers], atomic=atomic) for numbers in bulks)
    )
    told = sorted(answer.status_code for answer in answers)
    assert told == [400 if atomic else 207] + [429] * 7
    again = await mine.send_all([(paid, "1"), (unpaid, "1"), (paid, "1")], atomic=atomic)
    problem = refusal(again, 429, "rate_limited")
    assert [error["field"] for error in problem["errors"]] == ["transfers[1].wallet_number"]
    assert (await mine.send_all([(paid, "1"), (paid, "1")], atomic=atomic)).status_code == 201


async def test_a_bulk_that_used_the_limit_up_is_answered_again_under_its_key(client: httpx.AsyncClient) -> None:
    mine, paid, unpaid = await wallets(client)
    wishes: list[Wish] = [(unpaid, "1"), *((number, "1") for number in nobodys(MOST + 1)), (paid, "1")]
    first = await mine.send_all(wishes, key="payroll")
    again = await mine.send_all(wishes, key="payroll")
    assert (first.status_code, again.status_code) == (207, 207)
    assert first.json() == again.json()
    refusal(await mine.send_all(wishes, key="another"), 429, "rate_limited")
    refusal(await mine.send_all(wishes), 429, "rate_limited")


async def test_a_bulk_that_is_undone_is_no_free_question(client: httpx.AsyncClient) -> None:
    mine, paid, unpaid = await wallets(client)
    wishes: list[Wish] = [(paid, "1"), (unpaid, "1"), (nobodys(1)[0], "1")]
    for _ in range(MOST - 1):  # the number that nobody has counts once, each bulk by itself
        refusal(await mine.send_all(wishes, atomic=True), 400, "bulk_refused")
    refusal(await mine.send_all(wishes, atomic=True), 429, "rate_limited")


async def test_numbers_count_that_somebody_else_has_paid(client: httpx.AsyncClient) -> None:
    """The process knows them, and lets payments to them pass without another look."""
    mine, _, _ = await wallets(client)
    other = await (await register(client)).open_wallet(holding="100")
    frozen = [await (await register(client)).open_wallet() for _ in range(MOST)]
    for each in frozen:
        assert (await other.send("1", each)).status_code == 201
    await Wallet.update({Wallet.frozen_at: datetime.now(UTC)}).where(Wallet.id.is_in([each.id for each in frozen]))
    for each in frozen:
        refusal(await mine.send("1", each), 400, "receiver_unavailable")
    refusal(await mine.send("1", frozen[0]), 429, "rate_limited")


async def test_parallel_requests_find_out_no_more(client: httpx.AsyncClient) -> None:
    """And whoever pays many for the first time, at once, is not taken for somebody who tries numbers."""
    mine, _, _ = await wallets(client)
    others = [await (await register(client)).open_wallet() for _ in range(3 * MOST)]
    paid = await asyncio.gather(*(mine.send("1", other) for other in others))
    assert {answer.status_code for answer in paid} == {201}
    tried = await asyncio.gather(*(mine.send("1", number) for number in nobodys(10 * MOST)))
    assert sorted(answer.status_code for answer in tried) == [404] * MOST + [429] * 9 * MOST
    assert {(await mine.send("1", other)).status_code for other in others} == {201}


async def test_whom_somebody_has_paid_is_found_however_long_ago(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paid_before, "MOVEMENTS_AT_ONCE", 3)
    async with banks(1, redis_url) as (bank,):
        mine, *others = await purses(9, holding="100", bank=bank)
        paid, unpaid = others[:5], others[5:]
        known = PaidBefore(numbers_max=4)  # whoever was asked about before is forgotten

        async def among(purse: Purse) -> set[str]:
            numbers = [each.number for each in (mine, *others)]
            return await known.among(purse.owner, [*numbers, "x", "", f"0{numbers[1]}"], seconds=60)

        for place, each in enumerate(paid):
            for _ in range(place):  # one of them is never paid by the first turn
                await bank.perform(mine.send("1", each))
                await bank.perform(each.send("1", mine))
            assert await among(mine) == {mine.number, *(other.number for other in paid[1 : place + 1])}
            assert await among(unpaid[0]) == {unpaid[0].number}
        known = PaidBefore()
        for _ in range(100):  # it gets further each time, however little time it has
            try:
                found = await known.among(mine.owner, [paid[1].number, unpaid[0].number], seconds=0.000_001)
                break
            except Overloaded:
                continue
        assert found == {paid[1].number}


class TestSwitchedOff:
    """A limit of 0 is none."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, limits=RateLimits(unpaid_numbers_per_user=0))

    async def test_any_number_of_numbers_is_looked_for(self, client: httpx.AsyncClient) -> None:
        mine, _, unpaid = await wallets(client)
        for number in nobodys(3 * MOST):
            refusal(await mine.send("1", number), 404, "wallet_not_found")
        assert (await mine.send("1", unpaid)).status_code == 201


class TestProcesses:
    """Two banks with a limit each, as two processes have them."""

    @pytest.fixture
    async def two(self, database: str, redis_url: str) -> AsyncIterator[tuple[Two, Cable]]:
        async with (
            banks(2, redis_url) as opened,
            cable(redis_url) as line,
            Redis.from_url(line.url) as one,
            Redis.from_url(line.url) as other,
        ):
            left, right = (ProbingLimit(bank, redis, MOST) for bank, redis in zip(opened, (one, other), strict=True))
            yield (left, right), line

    @staticmethod
    async def found_out(limit: ProbingLimit, mine: Purse, numbers: list[str]) -> list[str]:
        """What came of a transfer to each, sent at once."""

        async def code(number: str) -> str:
            order = mine.send("1", replace(mine, number=number))
            try:
                await limit.transfer(order)
            except Refusal as refusal:
                return refusal.code
            return "done"

        return sorted(await asyncio.gather(*map(code, numbers)))

    async def test_what_one_has_counted_the_other_hears_of(self, two: tuple[Two, Cable]) -> None:
        (left, right), _ = two
        (mine,) = await purses(1, holding="100", bank=left.bank)
        assert set(await self.found_out(left, mine, nobodys(MOST))) == {"wallet_not_found"}
        assert await self.found_out(left, mine, nobodys(1)) == ["rate_limited"]
        assert await self.found_out(right, mine, nobodys(1)) == ["wallet_not_found"]  # and by that it has heard
        assert await self.found_out(right, mine, nobodys(2)) == ["rate_limited"] * 2

    @pytest.mark.impatient
    @pytest.mark.parametrize("away", ["hush", "unplug"])
    async def test_without_redis_each_goes_by_its_own_count(
        self, two: tuple[Two, Cable], away: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(probing, "COUNT_SECONDS", 0.2)
        (left, right), line = two
        mine, his = await purses(2, holding="100", bank=left.bank)
        getattr(line, away)()
        tried = nobodys(3 * MOST)
        assert await self.found_out(left, mine, tried) == ["rate_limited"] * 2 * MOST + ["wallet_not_found"] * MOST
        assert await self.found_out(left, mine, [his.number]) == ["rate_limited"]
        line.speak()
        line.plug()
        assert await self.found_out(left, his, [mine.number]) == ["done"]
        assert await self.found_out(right, mine, [*tried[:2], his.number]) == ["done"] + ["wallet_not_found"] * 2

    async def test_what_could_not_be_told_is_told_with_the_next_number(self, two: tuple[Two, Cable]) -> None:
        (left, right), line = two
        (mine,) = await purses(1, holding="100", bank=left.bank)
        line.unplug()
        assert set(await self.found_out(left, mine, nobodys(MOST - 2))) == {"wallet_not_found"}
        line.plug()
        left._asks_again_at = 0.0  # Redis is left alone for a second
        assert await self.found_out(left, mine, nobodys(1, first=MOST)) == ["wallet_not_found"]
        assert await self.found_out(right, mine, nobodys(1, first=MOST + 1)) == ["wallet_not_found"]
        assert await self.found_out(right, mine, nobodys(1, first=MOST + 2)) == ["rate_limited"]

    async def test_of_too_many_people_to_remember_none_is_let_through_uncounted(
        self, two: tuple[Two, Cable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(probing, "PEOPLE_MAX", 2)
        (left, _), line = two
        people = await purses(4, holding="100", bank=left.bank)
        for mine in people[:3]:  # the first is forgotten: Redis knows
            assert await self.found_out(left, mine, nobodys(1)) == ["wallet_not_found"]
        line.unplug()
        for mine in people[1:3]:
            assert await self.found_out(left, mine, nobodys(1, first=1)) == ["wallet_not_found"]
        assert await self.found_out(left, people[3], nobodys(1)) == ["unavailable"]
        for _ in range(MOST):
            await self.found_out(left, people[2], nobodys(MOST))
        assert await self.found_out(left, people[2], nobodys(1)) == ["rate_limited"]
