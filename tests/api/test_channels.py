"""Which code goes where, and who is told what instead."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from msgspec.structs import replace
from redis import Redis

from actors.orders import StaffMember
from app.people.blocking import block
from app.settings import Settings
from db.tables import Message, User
from tasks.messages.delivery import Delivery
from tasks.messages.mail import Smtp
from tasks.messages.sms import SmsGateway
from tests.helpers.registrations import (
    BOB,
    BOBS_PHONE,
    CAS,
    CAS_PHONE,
    NEW_EMAIL,
    NEW_PHONE,
    key_of,
    outcome,
    start,
    verify,
)
from tests.helpers.third_parties import MailServer, WebServer, mail_server, web_server
from tests.helpers.users import PASSWORD, CodeOf, Join, Json, Member, start_password, wrong

NOTICE = "Someone tried to register with your details"
LETTER = "Confirm your registration"

# Whose email, whose phone; who then gets a letter with a code, who an SMS with one, and who a notice.
CASES: list[tuple[str, str, list[str], list[str], list[str]]] = [
    (NEW_EMAIL, NEW_PHONE, [NEW_EMAIL], [NEW_PHONE], []),
    (BOB, NEW_PHONE, [], [NEW_PHONE], [BOB]),
    (NEW_EMAIL, BOBS_PHONE, [NEW_EMAIL], [], [BOB]),
    (BOB, BOBS_PHONE, [], [], [BOB]),
    (BOB, CAS_PHONE, [], [], [BOB, CAS]),
]
OF_EACH_CASE = pytest.mark.parametrize(("email", "phone", "letters", "texts", "notices"), CASES)


@pytest.fixture(params=[False, True], ids=["mail", "mail and SMS"])
def by_sms(request: pytest.FixtureRequest) -> bool:
    """Whether there is a gateway."""
    return bool(request.param)


@pytest.fixture
async def gateway() -> AsyncIterator[WebServer]:
    async with web_server(lambda: (202, b"{}")) as running:
        yield running


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
def settings(settings: Settings, gateway: WebServer, by_sms: bool) -> Settings:
    return replace(settings, sms=SmsGateway(url=gateway.url if by_sms else ""))


@dataclass
class Post:
    """What has arrived at the mail server and the gateway, after everything that is owed was sent."""

    delivery: Delivery
    mail: MailServer
    gateway: WebServer

    async def letters(self) -> list[tuple[str, str, str]]:
        """To whom, with which subject and text."""
        await self.delivery.run()
        return sorted((to, str(each["Subject"]), each.get_content()) for to, each in self.mail.accepted)

    async def texts(self) -> list[tuple[str, str]]:
        """To which number, with which text."""
        await self.delivery.run()
        bodies = (msgspec.json.decode(each.partition(b"\r\n\r\n")[2]) for each in self.gateway.requests)
        return sorted((each["to"], each["text"]) for each in bodies)

    def forget(self) -> None:
        """What has arrived so far."""
        self.mail.accepted.clear()
        self.gateway.requests.clear()


@pytest.fixture
def post(settings: Settings, mail: MailServer, gateway: WebServer) -> Post:
    smtp = Smtp(host="127.0.0.1", port=mail.port, tls="none")
    return Post(Delivery(settings.secret, smtp, settings.sms), mail, gateway)


@pytest.fixture
async def people(join: Join, post: Post) -> None:
    """Bob and Cas, who have an account."""
    await join(email=BOB, phone_number=BOBS_PHONE)
    await join(email=CAS, phone_number=CAS_PHONE)
    await post.letters()
    post.forget()


def digits(text: str) -> str:
    (found,) = re.findall(r"\b\d{6}\b", text)
    return str(found)


@OF_EACH_CASE
async def test_whoever_is_registered_is_told_and_nobody_else_learns_of_it(
    client: httpx.AsyncClient,
    people: None,
    post: Post,
    by_sms: bool,
    redis_url: str,
    email: str,
    phone: str,
    letters: list[str],
    texts: list[str],
    notices: list[str],
) -> None:
    session = await start(client, email, phone)
    assert session.keys() == {"session_id", "expires_in", "channels"}
    assert (session["expires_in"], session["channels"]) == (300, ["email", "sms"] if by_sms else ["email"])

    arrived = await post.letters()
    expected = [(to, LETTER) for to in letters] + [(to, NOTICE) for to in notices]
    assert [(to, subject) for to, subject, _ in arrived] == sorted(expected)
    told = await post.texts()
    assert [to for to, _ in told] == (texts if by_sms else [])
    codes = [digits(text) for *_, text in [*(each for each in arrived if each[1] == LETTER), *told]]
    assert len(codes) == len(letters) + len(told)
    assert not any(re.search(r"\d{6}", text) for _, subject, text in arrived if subject == NOTICE)
    if letters:
        said = next(text for _, subject, text in arrived if subject == LETTER)
        assert ("Another code comes by SMS" in said) == by_sms

    # Whatever came is given, and what did not come is guessed: in four tries, and a fifth that ends it.
    code = codes[0] if letters else "000000"
    phone_code = codes[-1] if told else "000000"
    given: Json = {"code": code} | ({"phone_code": phone_code} if by_sms else {})
    known = by_sms and bool(told)
    free = not notices
    with Redis.from_url(redis_url) as redis:
        assert redis.hkeys(key_of(session)) == [b"digest", b"phone", b"pending", b"tries"]
        assert 290 < redis.ttl(key_of(session)) <= 300
        for tries in range(1, 5):
            guess = given | {"phone_code" if known else "code": wrong(phone_code if known else code)}
            answer = await verify(client, session, **guess)
            assert (outcome(answer), redis.hget(key_of(session), "tries")) == ("invalid_code", str(tries).encode())
        last = await verify(client, session, **given)
        assert outcome(last) == ("made" if free else "invalid_code")
        assert not redis.exists(key_of(session))
    assert free or {**last[1], "instance": ""} == {**answer[1], "instance": ""}
    assert outcome(await verify(client, session, **given)) == "invalid_code"
    assert await User.count() == 2 + free


async def test_even_who_guesses_it_finishes_nothing_with_what_is_taken(
    client: httpx.AsyncClient,
    people: None,
    by_sms: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.people.codes.secrets.randbelow", lambda _: 482913)
    codes = {"code": "482913"} | ({"phone_code": "482913"} if by_sms else {})
    sessions = [(await start(client, email, phone), notices) for email, phone, _, _, notices in CASES]
    for session, notices in sessions:
        await User.delete(force=True)  # the owners go, and everything is free
        assert outcome(await verify(client, session, **codes)) == ("invalid_code" if notices else "made")


async def test_answer_and_work_are_the_same_whatever_is_taken(
    client: httpx.AsyncClient, people: None, database_url: str, redis_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        CREATE TABLE written (sealed boolean);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO written VALUES (NEW.sealed IS NOT NULL); RETURN NULL; END$$;
        CREATE TRIGGER note AFTER INSERT ON message FOR EACH ROW EXECUTE FUNCTION note();
    """)
    seen = set()
    with Redis.from_url(redis_url) as redis:
        for email, phone, *_ in CASES:
            redis.config_resetstat()
            answer = await client.post(
                "/users/create/", json={"email": email, "phone_number": phone, "password": PASSWORD}
            )
            # The rest may be of what happens in the background.
            asked: Any = redis.info("commandstats")
            commands = {name: asked[f"cmdstat_{name}"]["calls"] for name in ("hset", "expire", "multi", "eval")}
            written = Counter(row["sealed"] for row in await connection.fetch("DELETE FROM written RETURNING sealed"))
            headers = {name for name in answer.headers if name != "x-request-id"}
            seen.add(str([answer.status_code, sorted(answer.json()), headers, commands, sorted(written.items())]))
    await connection.close()
    assert len(seen) == 1, seen


@pytest.mark.parametrize("by_sms", [True], indirect=True)
async def test_who_reads_one_of_the_two_does_not_learn_who_has_the_other(
    client: httpx.AsyncClient, people: None, code_of: CodeOf, phone_code_of: CodeOf
) -> None:
    for own, asked in (
        (NEW_EMAIL, [(NEW_EMAIL, NEW_PHONE), (NEW_EMAIL, BOBS_PHONE)]),
        (NEW_PHONE, [(NEW_EMAIL, NEW_PHONE), (BOB, NEW_PHONE)]),
    ):
        told = []
        for email, phone in asked:
            session = await start(client, email, phone)
            code = await code_of(session) if own == NEW_EMAIL else "000000"
            phone_code = await phone_code_of(session) if own == NEW_PHONE else "000000"
            rows = await Message.select(Message.template, Message.params, Message.channel).where(
                (Message.recipient == own) & Message.event.like(f"%{session['session_id']}%")
            )
            told.append((rows, *[await verify(client, session, code=code, phone_code=phone_code) for _ in range(6)]))
        assert told[0] == told[1]
        assert len(told[0][0]) == 1


@pytest.mark.parametrize("by_sms", [False], indirect=True)
async def test_one_account_does_not_answer_for_many_numbers(
    client: httpx.AsyncClient, people: None, code_of: CodeOf
) -> None:
    sessions = [await start(client, NEW_EMAIL, phone) for phone in (NEW_PHONE, "+77010000008", BOBS_PHONE)]
    own, free, taken = [(session, await code_of(session)) for session in sessions]
    assert outcome(await verify(client, own[0], code=own[1])) == "made"
    answers = [await verify(client, session, code=code) for session, code in (free, taken)]
    assert answers[0] == answers[1]
    assert outcome(answers[0]) == "user_exists"


@pytest.mark.parametrize(("by", "who"), [("email", BOB), ("phone_number", BOBS_PHONE)])
async def test_a_reset_goes_by_mail_and_the_phone_gets_a_notice(
    client: httpx.AsyncClient,
    people: None,
    post: Post,
    by_sms: bool,
    by: str,
    who: str,
) -> None:
    await block(CAS, reason="a test", staff=StaffMember(0, "test"), phone_region="KZ")
    seen = set()
    for asked in (who, {BOB: CAS, BOBS_PHONE: CAS_PHONE}[who], {BOB: NEW_EMAIL, BOBS_PHONE: NEW_PHONE}[who]):
        answer = await client.post("/users/password/reset/", json={by: asked})
        seen.add((answer.status_code, tuple(answer.json())))
    assert seen == {(201, ("session_id", "expires_in"))}
    assert [(to, subject) for to, subject, _ in await post.letters()] == [(BOB, "Set a new password")]
    texts = await post.texts()
    assert [to for to, _ in texts] == ([BOBS_PHONE] if by_sms else [])
    assert all("asked to reset your password" in text and not re.search(r"\d", text) for _, text in texts)


async def test_a_change_of_password_goes_by_mail_and_the_phone_gets_a_notice(
    client: httpx.AsyncClient,
    ann: Member,
    post: Post,
    by_sms: bool,
) -> None:
    await post.letters()
    post.forget()
    session = (await start_password(client, ann, "another good password")).json()
    assert session.keys() == {"session_id", "expires_in"}
    ((to, _, text),) = await post.letters()
    assert to == ann.user["email"]
    texts = await post.texts()
    assert [to for to, _ in texts] == ([ann.user["phone_number"]] if by_sms else [])
    assert all("asked to change your password" in said and not re.search(r"\d", said) for _, said in texts)
    body = {"session_id": session["session_id"], "code": digits(text)}
    answer = await client.patch("/users/password/verify/", json=body, headers=ann.headers)
    assert (answer.status_code, answer.json()) == (200, ann.user)
