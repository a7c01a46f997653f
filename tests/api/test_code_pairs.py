"""A registration with a code for the address and one for the phone: both are right or neither is."""

import asyncio
import hmac
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from app.people import registration
from app.people.codes import Codes
from app.people.registration import Registration
from app.settings import Settings
from tasks.messages.sms import SmsGateway
from tests.helpers.registrations import BOB, BOBS_PHONE, NEW_EMAIL, NEW_PHONE, key_of, outcome, start, verify
from tests.helpers.users import CodeOf, Join, Json, wrong


@pytest.fixture(params=[False, True], ids=["mail", "mail and SMS"])
def by_sms(request: pytest.FixtureRequest) -> bool:
    """Whether there is a gateway."""
    return bool(request.param)


@pytest.fixture
def settings(settings: Settings, by_sms: bool) -> Settings:
    return replace(settings, sms=SmsGateway(url="http://127.0.0.1:9" if by_sms else ""))


class TestBoth:
    """With a gateway, a registration needs both codes."""

    @pytest.fixture
    def by_sms(self) -> bool:
        return True

    async def test_only_the_right_pair_is_right_and_nothing_says_which_was_wrong(
        self, client: httpx.AsyncClient, code_of: CodeOf, phone_code_of: CodeOf, redis_url: str
    ) -> None:
        session = await start(client)
        code, phone_code = await code_of(session), await phone_code_of(session)
        missing: list[Json] = [{}, {"phone_code": None}, {"phone_code": ""}, {"phone_code": " "}]
        wrong_pairs: list[Json] = [
            {"code": wrong(code), "phone_code": phone_code},
            {"code": code, "phone_code": wrong(phone_code)},
            {"code": phone_code, "phone_code": code},
            {"code": wrong(code), "phone_code": wrong(phone_code)},
        ]
        told = []
        with Redis.from_url(redis_url) as redis:
            for tries, pair in enumerate(wrong_pairs, 1):
                for each in missing:
                    for given in (code, wrong(code)):
                        status, body = await verify(client, session, **{**each, "code": given})
                        said = (status, body["code"], [error["field"] for error in body["errors"]])
                        assert said == (400, "validation_failed", ["phone_code"])
                told.append(await verify(client, session, **pair))
                assert redis.hget(key_of(session), "tries") == str(tries).encode()
        assert {outcome(answer) for answer in told} == {"invalid_code"}
        assert all(answer == told[0] for answer in told)
        assert outcome(await verify(client, session, code=code, phone_code=phone_code)) == "made"

    async def test_of_a_hundred_parallel_guesses_at_pairs_five_are_compared(
        self, client: httpx.AsyncClient, code_of: CodeOf, phone_code_of: CodeOf, redis_url: str
    ) -> None:
        session = await start(client)
        code, phone_code = await code_of(session), await phone_code_of(session)
        guesses = [(code, wrong(phone_code)), (wrong(code), phone_code), (phone_code, code)]
        with Redis.from_url(redis_url) as redis:
            for guess in guesses:
                await verify(client, session, code=guess[0], phone_code=guess[1])
            assert redis.hget(key_of(session), "tries") == b"3"
            rest = [verify(client, session, code=wrong(code), phone_code=phone_code) for _ in range(97)]
            assert {outcome(answer) for answer in await asyncio.gather(*rest)} == {"invalid_code"}
            assert not redis.keys("wallet:code:*")
        assert outcome(await verify(client, session, code=code, phone_code=phone_code)) == "invalid_code"

    async def test_both_come_back_where_the_database_fails(
        self,
        client: httpx.AsyncClient,
        code_of: CodeOf,
        phone_code_of: CodeOf,
        redis_url: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        session = await start(client)
        code, phone_code = await code_of(session), await phone_code_of(session)

        async def fail(_: Any) -> None:
            raise ConnectionResetError

        await verify(client, session, code=code, phone_code=wrong(phone_code))
        with Redis.from_url(redis_url) as redis:
            before = redis.hgetall(key_of(session))
            redis.pexpire(key_of(session), 100_000)
            with monkeypatch.context() as patch:
                patch.setattr(registration, "make_user", fail)
                answer = await verify(client, session, code=code, phone_code=phone_code)
            assert outcome(answer) == "database_unavailable"
            assert redis.hgetall(key_of(session)) == before
            assert 0 < redis.pttl(key_of(session)) <= 100_000, "no longer a life than it had"
        assert outcome(await verify(client, session, code=code)) == "validation_failed"
        assert outcome(await verify(client, session, code=wrong(code), phone_code=phone_code)) == "invalid_code"
        assert outcome(await verify(client, session, code=code, phone_code=phone_code)) == "made"

    async def test_each_code_is_a_secret_of_its_own(
        self, client: httpx.AsyncClient, code_of: CodeOf, phone_code_of: CodeOf, redis_url: str
    ) -> None:
        pairs = []
        for number in range(3):
            session = await start(client, f"new{number}@example.com", f"+7701000001{number}")
            pairs.append((await code_of(session), await phone_code_of(session)))
        assert not all(code == phone_code for code, phone_code in pairs)
        with Redis.from_url(redis_url) as redis:
            kept: Any = redis.hgetall(key_of(session))
        del kept[b"pending"]  # which has the number
        assert not any(code.encode() in value for code in pairs[-1] for value in kept.values())


@pytest.mark.parametrize("by_sms", [False], indirect=True)
async def test_a_code_that_nobody_was_sent_is_refused_and_costs_nothing(
    client: httpx.AsyncClient, code_of: CodeOf, redis_url: str
) -> None:
    session = await start(client)
    code = await code_of(session)
    status, body = await verify(client, session, code=code, phone_code=code)
    assert (status, body["code"], [each["field"] for each in body["errors"]]) == (
        *(400, "validation_failed"),
        ["phone_code"],
    )
    with Redis.from_url(redis_url) as redis:
        assert redis.hget(key_of(session), "tries") == b"0"
    assert outcome(await verify(client, session, code=code, phone_code=None)) == "made"


async def test_a_number_that_was_taken_meanwhile_is_told_to_who_has_the_codes(
    client: httpx.AsyncClient,
    join: Join,
    code_of: CodeOf,
    phone_code_of: CodeOf,
    by_sms: bool,
) -> None:
    session = await start(client, NEW_EMAIL, BOBS_PHONE)
    codes = {"code": await code_of(session)} | ({"phone_code": await phone_code_of(session)} if by_sms else {})
    await join(email=BOB, phone_number=BOBS_PHONE)
    if by_sms:
        assert outcome(await verify(client, session, **codes | {"phone_code": wrong(codes["phone_code"])})) == (
            "invalid_code"
        )
    assert outcome(await verify(client, session, **codes)) == "user_exists"


@pytest.mark.parametrize("begun_by_sms", [False, True])
async def test_what_a_session_was_begun_with_counts(
    client: httpx.AsyncClient,
    settings: Settings,
    begun_by_sms: bool,
) -> None:
    """Whatever the setting is when it is finished."""
    pending = Registration(user_id=uuid4(), email=NEW_EMAIL, phone_number=NEW_PHONE, password_hash="none")
    async with AsyncRedis.from_url(settings.redis_url) as redis:
        awaited, code, phone_code = await Codes(redis, settings.secret).open_registration(
            msgspec.json.encode(pending), sms=begun_by_sms, redeemable=True
        )
    session = {"session_id": str(awaited.session_id)}
    right, other = ({"code": code}, {"code": code, "phone_code": phone_code or code})
    if begun_by_sms:
        right, other = other, right
    assert outcome(await verify(client, session, **other)) == "validation_failed"
    assert outcome(await verify(client, session, **right)) == "made"


async def test_a_session_of_an_earlier_version_is_finished_with_its_one_code(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    session_id = uuid4()
    pending = {
        "user_id": str(uuid4()),
        "email": NEW_EMAIL,
        "phone_number": NEW_PHONE,
        "password_hash": "none",
    }
    key = hmac.digest(settings.secret.encode(), b"wallet one-time codes", "sha256")
    digest = hmac.digest(key, session_id.bytes + b"170639", "sha256").hex()
    session = {"session_id": str(session_id)}
    with Redis.from_url(settings.redis_url) as redis:
        kept = {"digest": digest, "pending": msgspec.json.encode(pending), "tries": 0}
        redis.hset(key_of(session), mapping=kept)
        redis.expire(key_of(session), 300)
    assert outcome(await verify(client, session, code="170638")) == "invalid_code"
    assert outcome(await verify(client, session, code="170639")) == "made"
