"""Rate limits: the same for the known and the unknown, with Redis and without."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from msgspec.structs import replace
from redis import Redis

from app.limits.requests import RateLimits
from app.limits.visitor import LimitedResponse
from app.proof.cable import Cable, cable
from app.settings import Settings
from tests.helpers.banks import NOBODY_LISTENS
from tests.helpers.production import ADDRESS, in_production
from tests.helpers.staff import sign_in as staff_sign_in_to
from tests.helpers.tokens import sign_in
from tests.helpers.users import PASSWORD, CodeOf, Join, Member

Three = Callable[[str], Awaitable[list[httpx.Response]]]
Pass = Callable[[int], None]


@pytest.fixture
def pass_(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Lets so many seconds pass, for this process and for Redis."""
    passed = 0

    def pass_(seconds: int) -> None:
        nonlocal passed
        passed += seconds
        monkeypatch.setattr("app.limits.tallies.monotonic", lambda: monotonic() + passed)
        with Redis.from_url(redis_url) as redis:
            keys: Any = redis.keys("wallet:limit:*")
            for key in keys:
                left = redis.ttl(key)
                assert isinstance(left, int)
                redis.expire(key, left - seconds)

    return pass_


def test_every_answer_that_tells_of_limits_is_to_a_request_that_was_counted(app: Litestar) -> None:
    handlers = [each for route in app.routes if isinstance(route, HTTPRoute) for each in route.route_handlers]
    ours = [each for each in handlers if each.http_methods != {"OPTIONS"}]
    telling = [each for each in ours if each.resolve_response_class() is LimitedResponse]
    silent = [str(each) for each in telling if "visitor" not in each.parsed_fn_signature.parameters]
    assert (silent, len(telling) > 8) == ([], True)


class TestLimits:
    """Limits count what is asked, not who exists."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, limits=RateLimits(sign_ins_per_phone=3, codes_per_email=2, codes_per_phone=0))

    async def test_too_many_sign_ins_have_to_wait(self, client: httpx.AsyncClient, ann: Member) -> None:
        # Ann's own sign-in was one; the unknown number starts from none.
        await sign_in(client, "+77010000000", "not the password")
        for phone_number in ("+77011234567", "+77010000000"):
            for _ in range(2):
                assert (await sign_in(client, phone_number, "not the password")).status_code == 401
            answer = await sign_in(client, phone_number)
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert 0 < int(answer.headers["retry-after"]) <= 900
            assert answer.headers["ratelimit-policy"] == '"sign-ins-per-phone";q=3;w=900'
            assert answer.headers["ratelimit"].startswith('"sign-ins-per-phone";r=0;t=')

    async def test_codes_are_limited_by_email_and_zero_means_no_limit(self, client: httpx.AsyncClient) -> None:
        statuses = []
        for n in range(4):
            body = {"email": "Eve@example.com", "phone_number": f"+7701000000{n}", "password": PASSWORD}
            statuses.append((await client.post("/users/create/", json=body)).status_code)
        assert statuses == [201, 201, 429, 429]
        for n in range(4):
            body = {"email": f"eve{n}@example.com", "phone_number": "+77010000009", "password": PASSWORD}
            assert (await client.post("/users/create/", json=body)).status_code == 201

    async def test_resets_are_limited_by_what_was_given_and_alike_for_everybody(
        self, client: httpx.AsyncClient, ann: Member
    ) -> None:
        for email, before in (("Ann@example.com", 1), ("nobody@example.com", 0)):  # her registration was one
            answers = [await client.post("/users/password/reset/", json={"email": email}) for _ in range(3 - before)]
            assert [answer.status_code for answer in answers] == [201] * (2 - before) + [429]
            assert answers[-1].headers["ratelimit-policy"] == '"codes-per-email";q=2;w=3600'

    async def test_codes_are_limited_by_the_day_too_or_an_hour_after_the_other_would_do_for_guessing(
        self, client: httpx.AsyncClient, pass_: Pass
    ) -> None:
        answers = []
        for _ in range(4):
            pass_(3600)
            answers.append(await client.post("/users/password/reset/", json={"email": "eve@example.com"}))
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        assert answers[-1].headers["RateLimit-Policy"] == '"codes-per-email-a-day";q=3;w=86400'
        assert 3600 < int(answers[-1].headers["Retry-After"]) <= 86400
        assert answers[-1].json()["detail"].startswith("At most 3 in a day. ")

    async def test_a_window_passes(self, client: httpx.AsyncClient, redis_url: str, pass_: Pass) -> None:
        for _ in range(4):
            answer = await sign_in(client, "+77010000000")
        assert answer.status_code == 429
        with Redis.from_url(redis_url) as redis:
            keys: Any = redis.keys("wallet:limit:*")
            assert all(0 < redis.ttl(key) <= 900 for key in keys)
            assert not any(b"7701" in key for key in keys)
        pass_(890)
        assert (await sign_in(client, "+77010000000")).status_code == 429
        pass_(10)
        assert (await sign_in(client, "+77010000000")).status_code == 401


async def ask(  # noqa: C901 - a case for each limit
    client: httpx.AsyncClient, app: Litestar, ann: Member, policy: str, turn: int
) -> httpx.Response:
    """Something that this limit counts, each turn as somebody whom no other limit would count together."""
    session = {"session_id": str(uuid4()), "code": "123456"}
    match policy:
        case "sign-ins-per-phone" | "sign-ins-per-address":
            return await sign_in(client, f"+7701000000{turn if 'address' in policy else 0}")
        case "refreshes-per-address":
            return await client.post("/users/token/refresh/", json={"refresh": "nonsense"})
        case "refreshes-per-user":
            return await client.post("/users/token/refresh/", json={"refresh": ann.tokens["refresh"]})
        case "codes-per-phone":
            return await client.post("/users/password/reset/", json={"phone_number": "+77010000000"})
        case "codes-per-email" | "codes-per-address":
            email = f"eve{turn if 'address' in policy else 0}@example.com"
            return await client.post("/users/password/reset/", json={"email": email})
        case "verifications-per-address" if turn == 0:  # it is one for the three routes
            return await client.post("/users/verify/", json=session)
        case "verifications-per-address" if turn == 1:
            return await client.post("/users/password/reset/verify/", json={**session, "new_password": PASSWORD})
        case "verifications-per-address":
            return await client.patch("/users/password/verify/", json=session, headers=ann.headers)
        case "password-checks-per-user":
            body = {"password": "not the password", "new_password": PASSWORD}
            return await client.post("/users/password/update/", json=body, headers=ann.headers)
        case "staff-sign-ins-per-name" | "staff-sign-ins-per-address":
            return await staff_sign_in(app, f"ayan{turn if 'address' in policy else 0}")
    raise AssertionError(f"say here what {policy} counts")


@pytest.fixture
def three(client: httpx.AsyncClient, app: Litestar, pass_: Pass, join: Join) -> Three:
    """Asks three times for what a limit counts."""

    async def three(policy: str) -> list[httpx.Response]:
        ann = await join(email="ann@example.com", phone_number="+77011234567")
        pass_(86_400)  # and is over: what that has counted
        return [await ask(client, app, ann, policy, turn) for turn in range(3)]

    return three


async def staff_sign_in(app: Litestar, name: str) -> httpx.Response:
    answer, staff = await staff_sign_in_to(app, name, "not the password", address=ADDRESS)
    await staff.client.aclose()
    return answer


# Those of payments have tests of their own.
OTHERS = {"payments_per_user", "unpaid_numbers_per_user"}
POLICIES = sorted(name.replace("_", "-") for name in RateLimits.__struct_fields__ if name not in OTHERS)


def only(policy: str, most: int) -> RateLimits:
    """That limit and no other."""
    return RateLimits(**(dict.fromkeys(RateLimits.__struct_fields__, 0) | {policy.replace("-", "_"): most}))


class TestEach:
    """Every limit there is refuses the third by itself."""

    @pytest.fixture(params=POLICIES)
    def policy(self, request: pytest.FixtureRequest) -> str:
        policy: str = request.param
        return policy

    @pytest.fixture
    def settings(self, settings: Settings, policy: str) -> Settings:
        return replace(in_production(settings), limits=only(policy, 2))

    async def test_the_third_is_refused(self, three: Three, policy: str) -> None:
        first, second, third = await three(policy)
        assert 429 not in (first.status_code, second.status_code)
        assert third.status_code == 429
        assert third.headers["RateLimit-Policy"].split(";w=")[0] == f'"{policy}";q=2'
        assert int(third.headers["Retry-After"]) > 0


class TestInDevelopment:
    """Everybody comes from 127.0.0.1, so nobody's address is counted: but for staff, who don't come by the hundred."""

    @pytest.fixture(params=[each for each in POLICIES if "per-address" in each])
    def policy(self, request: pytest.FixtureRequest) -> str:
        policy: str = request.param
        return policy

    @pytest.fixture
    def settings(self, settings: Settings, policy: str) -> Settings:
        return replace(settings, limits=only(policy, 2), public_url=ADDRESS)

    async def test_addresses_are_not_counted(self, three: Three, policy: str) -> None:
        *_, third = await three(policy)
        assert (third.status_code == 429) == policy.startswith("staff")


class TestWhatIsLeft:
    """
    Answers of limited routes say how much is left, so that nobody has to find out by being refused: of limits that
    count who asks, not of those that count whom they name.
    """

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limits = RateLimits(sign_ins_per_phone=9, codes_per_email=9, codes_per_phone=5, refreshes_per_user=2)
        return replace(in_production(settings), limits=limits)

    @staticmethod
    def left(answer: httpx.Response) -> str:
        assert answer.is_success, answer.text
        assert (
            0
            < int(answer.headers["RateLimit"].rsplit(";t=")[1])
            <= int(answer.headers["RateLimit-Policy"].rsplit(";w=")[1])
        )
        return f"{answer.headers['RateLimit'].split(';t=')[0]} of {answer.headers['RateLimit-Policy'].split(';w=')[0]}"

    async def test_the_tightest_of_the_limits_is_told(self, client: httpx.AsyncClient, code_of: CodeOf) -> None:
        body = {"email": "ann@example.com", "phone_number": "+77011234567", "password": PASSWORD}
        begun = await client.post("/users/create/", json=body)
        assert self.left(begun) == '"codes-per-address";r=59 of "codes-per-address";q=60'
        code = {"session_id": begun.json()["session_id"], "code": await code_of(begun.json())}
        verified = await client.post("/users/verify/", json=code)
        assert self.left(verified) == '"verifications-per-address";r=59 of "verifications-per-address";q=60'
        for left in (8, 7):
            tokens = await sign_in(client, "+77011234567")
            assert self.left(tokens) == f'"sign-ins-per-phone";r={left} of "sign-ins-per-phone";q=9'
        client.headers["Authorization"] = f"Bearer {tokens.json()['access']}"
        change = {"password": PASSWORD, "new_password": "another good password"}
        begun = await client.post("/users/password/update/", json=change)
        assert self.left(begun) == '"codes-per-phone";r=3 of "codes-per-phone";q=5'
        code = {"session_id": begun.json()["session_id"], "code": await code_of(begun.json())}
        verified = await client.patch("/users/password/verify/", json=code)
        assert self.left(verified) == '"verifications-per-address";r=58 of "verifications-per-address";q=60'

    async def test_nobody_learns_by_it_who_was_here(self, client: httpx.AsyncClient, ann: Member) -> None:
        """Ann has asked for a code, and has signed in; nobody has ever asked for Ben."""
        for _ in range(3):
            await client.post("/users/password/reset/", json={"email": "ann@example.com"})
            await sign_in(client, "+77011234567", "not the password")
        create = {"email": "cem@example.com", "phone_number": "+77017654322", "password": PASSWORD}
        credentials = {"phone_number": "+77017654321", "password": "not the password"}
        places: list[tuple[str, dict[str, str], dict[str, str]]] = [
            ("/users/password/reset/", {"email": "ann@example.com"}, {"email": "ben@example.com"}),
            ("/users/password/reset/", {"phone_number": "+77011234567"}, {"phone_number": "+77017654321"}),
            ("/users/create/", create | {"email": "ann@example.com"}, create),
            ("/users/create/", create | {"phone_number": "+77011234567"}, create),
            ("/users/token/create/", credentials | {"phone_number": "+77011234567"}, credentials),
        ]
        for path, known, unknown in places:
            told = []
            for body in (known, unknown):
                answer = await client.post(path, json=body)
                assert answer.status_code in (201, 401), answer.text
                told.append({name: answer.headers.get(name) for name in ("RateLimit", "RateLimit-Policy")})
            first, second = (each["RateLimit"] and each["RateLimit"].split(";t=")[0] for each in told)
            assert told[0]["RateLimit-Policy"] == told[1]["RateLimit-Policy"], path
            if first and second:
                policy, left = first.split(";r=")
                assert second == f"{policy};r={int(left) - 1}", "it counts who asks"

    async def test_a_person_refreshes_so_often_from_wherever(self, client: httpx.AsyncClient, ann: Member) -> None:
        refresh = ann.tokens["refresh"]
        for left in (1, 0):
            answer = await client.post("/users/token/refresh/", json={"refresh": refresh})
            assert self.left(answer) == f'"refreshes-per-user";r={left} of "refreshes-per-user";q=2'
            refresh = answer.json()["refresh"]
        answer = await client.post("/users/token/refresh/", json={"refresh": refresh})
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.headers["RateLimit-Policy"] == '"refreshes-per-user";q=2;w=900'


@pytest.mark.impatient
class TestWithoutRedis:
    """Signing in needs PostgreSQL alone, and is limited; codes can't be had."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limits = RateLimits(sign_ins_per_phone=20)
        return replace(settings, redis_url=NOBODY_LISTENS, limits=limits)

    async def test_people_still_sign_in_but_not_too_often(
        self, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        begun = perf_counter()
        for _ in range(20):  # if each waited for Redis, it would be a second each
            assert (await sign_in(client, "+77010000000")).json()["code"] == "wrong_credentials"
        assert perf_counter() - begun < 15
        assert (await sign_in(client, "+77010000000")).status_code == 429
        said = [record.message for record in caplog.records if record.name == "app.limits.totals"]
        assert ["by each process alone" in message for message in said] == [True]

    async def test_nobody_can_register(self, client: httpx.AsyncClient) -> None:
        body = {"email": "eve@example.com", "phone_number": "+77010000009", "password": PASSWORD}
        answer = await client.post("/users/create/", json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        body = {"session_id": str(uuid4()), "code": "123456"}
        answer = await client.post("/users/verify/", json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


@pytest.mark.impatient
class TestAttack:
    """Thousands of requests at once, for one phone number, while Redis answers now and then."""

    @pytest.fixture
    async def way(self, redis_url: str) -> AsyncIterator[Cable]:
        async with cable(redis_url) as between:
            yield between

    @pytest.fixture
    def settings(self, settings: Settings, way: Cable) -> Settings:
        limits = RateLimits(sign_ins_per_phone=30, codes_per_phone=20)
        return replace(settings, redis_url=way.url, limits=limits)

    async def test_what_the_limits_allow_passes_and_no_more(self, client: httpx.AsyncClient, way: Cable) -> None:
        most = 0

        async def falter() -> None:
            nonlocal most
            while True:
                way.hush()
                await asyncio.sleep(1.2)
                most = max(most, len(way._writers) // 2)
                way.speak()
                await asyncio.sleep(0.1)

        faltering = asyncio.create_task(falter())
        reset = {"phone_number": "+77011234567"}
        answers = Counter(
            answer.status_code
            for answer in await asyncio.gather(
                *(sign_in(client, "+77011234567") for _ in range(300)),
                *(client.post("/users/password/reset/", json=reset) for _ in range(300)),
            )
        )
        faltering.cancel()
        assert answers[401] == 30
        assert answers[201] + answers[503] == 20
        assert answers[429] == 550
        assert most < 100, "connections, with Redis busy: of those for the worker and those for codes twenty each"
