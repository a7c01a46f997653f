"""Nobody learns by a clock who has an account: the known, the unknown and the blocked take equally long."""

from collections.abc import Awaitable, Callable
from time import perf_counter

import httpx
import pytest
from msgspec.structs import replace

from actors.orders import StaffMember
from app.limits.requests import RateLimits
from app.people.blocking import block
from app.settings import Settings
from tasks.messages.sms import SmsGateway
from tests.helpers.users import PASSWORD, Join, Member

PHONE, BLOCKED_PHONE = "+77011234567", "+77010000001"
ROUNDS, FIRST_ROUNDS = 40, 16

Ask = Callable[[int], Awaitable[httpx.Response]]


GATEWAY = "http://127.0.0.1:9"
with_and_without_sms = pytest.mark.parametrize("settings", ["", GATEWAY], ids=["mail", "mail and SMS"], indirect=True)
with_sms = pytest.mark.parametrize("settings", [GATEWAY], ids=["mail and SMS"], indirect=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Nothing is limited."""
    unlimited = RateLimits(**dict.fromkeys(RateLimits.__struct_fields__, 0))
    return replace(settings, limits=unlimited, sms=SmsGateway(url=getattr(request, "param", "")))


@pytest.fixture
async def blocked(join: Join, ann: Member) -> Member:
    """Bob, beside Ann."""
    bob = await join(email="bob@example.com", phone_number=BLOCKED_PHONE)
    await block(BLOCKED_PHONE, reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
    return bob


async def assert_takes_as_long(one: Ask, other: Ask) -> None:
    """
    Ask in turns, the one first and then the other first, and compare all with all.

    Of two that take equally long, either is the slower one in about half of the pairs; by chance it is so in less than
    a fifth of them, or in more than four fifths, once in 250 000 times (the Mann-Whitney statistic of so many). Where
    the first rounds leave hardly a doubt, the rest is spared: of two that would be told apart in the end, it looks so
    less than once in two hundred times.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS):
        for which in (0, 1) if turn % 2 else (1, 0):
            begun = perf_counter()
            await (one, other)[which](turn)
            seconds[which].append(perf_counter() - begun)
        if turn + 1 == FIRST_ROUNDS and 0.4 < slower(*seconds) < 0.6:
            return
    assert 0.2 < slower(*seconds) < 0.8, f"the one took longer in {slower(*seconds):.0%} of the pairs"


def slower(one: list[float], other: list[float]) -> float:
    """In which part of all pairs the one is slower than the other."""
    return sum((a > b) + (a == b) / 2 for a in one for b in other) / (len(one) * len(other))


async def test_a_wrong_password_and_an_unknown_phone(client: httpx.AsyncClient, ann: Member) -> None:
    async def sign_in(phone_number: str) -> httpx.Response:
        body = {"phone_number": phone_number, "password": "not the password"}
        return await client.post("/users/token/create/", json=body)

    await assert_takes_as_long(lambda _: sign_in(PHONE), lambda turn: sign_in(f"+770100001{turn:02}"))


async def test_the_right_password_of_somebody_who_is_blocked(client: httpx.AsyncClient, blocked: Member) -> None:
    async def sign_in(phone_number: str, password: str) -> httpx.Response:
        answer = await client.post("/users/token/create/", json={"phone_number": phone_number, "password": password})
        assert answer.status_code == 401
        return answer

    await assert_takes_as_long(
        lambda _: sign_in(BLOCKED_PHONE, blocked.password), lambda _: sign_in(BLOCKED_PHONE, "not the password")
    )


@with_and_without_sms
@pytest.mark.parametrize(
    "taken",
    [
        {"email": "ann@example.com"},
        {"phone_number": PHONE},
        {"email": "ann@example.com", "phone_number": PHONE},
        {"email": "ann@example.com", "phone_number": BLOCKED_PHONE},
    ],
    ids=str,
)
async def test_registering_with_what_is_taken(
    client: httpx.AsyncClient, blocked: Member, taken: dict[str, str]
) -> None:
    async def register(number: int, **taken: str) -> httpx.Response:
        body = {"email": f"free{number}@example.com", "phone_number": f"+77010{number:06}", "password": PASSWORD}
        answer = await client.post("/users/create/", json=body | taken)
        assert answer.status_code == 201
        return answer

    await assert_takes_as_long(lambda turn: register(100 + turn, **taken), lambda turn: register(200 + turn))


@with_sms
@pytest.mark.parametrize("by", ["email", "phone_number"])
@pytest.mark.parametrize("who", ["ann", "bob"])
async def test_resetting_the_password_of_somebody(
    client: httpx.AsyncClient, blocked: Member, by: str, who: str
) -> None:
    async def reset(text: str) -> httpx.Response:
        answer = await client.post("/users/password/reset/", json={by: text})
        assert answer.status_code == 201
        return answer

    known = {"email": f"{who}@example.com", "phone_number": PHONE if who == "ann" else BLOCKED_PHONE}[by]
    unknown = {"email": "nobody{:02}@example.com", "phone_number": "+770100001{:02}"}[by]
    await assert_takes_as_long(lambda _: reset(known), lambda turn: reset(unknown.format(turn)))


class TestRefused:
    """Whoever has been asked for too often is refused in the same words and the same time, known or not."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limits = RateLimits(sign_ins_per_phone=1, codes_per_phone=2, codes_per_email=2)
        return replace(settings, limits=limits)

    async def test_too_many_requests(self, client: httpx.AsyncClient, ann: Member) -> None:
        known: list[tuple[str, dict[str, str]]] = [
            ("/users/token/create/", {"phone_number": PHONE, "password": PASSWORD}),
            ("/users/password/reset/", {"email": "ann@example.com"}),
            ("/users/create/", {"email": "cem@example.com", "phone_number": PHONE, "password": PASSWORD}),
        ]
        others = {"ann@example.com": "ben@example.com", PHONE: "+77017654321"}
        for path, body in known:
            await assert_refused_alike(
                client, path, body, {name: others.get(each, each) for name, each in body.items()}
            )


async def assert_refused_alike(
    client: httpx.AsyncClient, path: str, known: dict[str, str], unknown: dict[str, str]
) -> None:
    seen: dict[str, set[tuple[object, ...]]] = {"known": set(), "unknown": set()}

    async def ask(who: str) -> httpx.Response:
        answer = await client.post(path, json=known if who == "known" else unknown)
        seen[who].add(told(answer))
        return answer

    for body in (known, unknown):
        while (await client.post(path, json=body)).status_code != 429:
            pass
    await assert_takes_as_long(lambda _: ask("known"), lambda _: ask("unknown"))
    assert seen["known"] == seen["unknown"], path


def told(answer: httpx.Response) -> tuple[object, ...]:
    """What somebody who is refused gets to see, but for how long they have to wait, and the number of the request."""
    assert answer.status_code == 429
    policy, _, wait = answer.headers["RateLimit"].rpartition(";t=")
    assert wait == answer.headers["Retry-After"]
    assert answer.json()["detail"].endswith(f" Try again in {wait} seconds.")
    problem = answer.json() | {"detail": answer.json()["detail"].removesuffix(f" Try again in {wait} seconds.")}
    return policy, answer.headers["RateLimit-Policy"], tuple(sorted(answer.headers)), tuple(sorted(problem.items()))
