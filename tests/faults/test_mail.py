"""Mail when servers refuse, hang, die and forget: nothing is lost, nothing is sent twice without need."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from db.tables import Message
from tasks.messages.delivery import MAX_ATTEMPTS, Delivery, pause_seconds
from tasks.messages.lane import PLACES
from tasks.messages.mail import NotSent, Smtp, send_mail
from tasks.messages.outbox import Outbox
from tasks.messages.sms import SmsGateway, says, send_sms
from tasks.messages.templates import write
from tasks.queue import open_queue
from tests.helpers.third_parties import MailServer, mail_server, web_server
from tests.helpers.waiting import GIVE_UP_SECONDS, until

SECRET = "a secret of at least thirty-two bytes"
CODE = "482913"


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
def outbox(redis_url: str) -> Outbox:
    return Outbox(open_queue(redis_url), SECRET, sms=True)


@pytest.fixture
def delivery(server: MailServer) -> Delivery:
    return Delivery(SECRET, Smtp(host="127.0.0.1", port=server.port, tls="none"), SmsGateway())


async def the_message() -> dict[str, Any]:
    row = await Message.raw("SELECT *, next_attempt_at - now() AS pause FROM message")
    assert len(row) == 1
    return dict(row[0])


async def due_again() -> None:
    await Message.raw("UPDATE message SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


async def test_a_message_goes_out_once_and_its_code_is_erased(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    await outbox.owe(event="e", template="password_code", recipient="a@x.kz", code=CODE)
    done = await delivery.run()
    await due_again()
    assert (done.sent, (await delivery.run()).sent) == (1, 0)
    ((to, mail),) = server.accepted
    assert to == "a@x.kz"
    assert CODE in mail.get_content()
    assert CODE not in str(mail["Subject"])
    row = await the_message()
    assert row["sent_at"]
    assert row["sealed"] is row["next_attempt_at"] is None
    assert str(row["id"]) in str(mail["Message-ID"])


async def test_what_was_sent_is_counted_by_channel_and_kind(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    def counted() -> dict[str, float]:
        each = {kind: {"channel": "email", "kind": kind} for kind in ("code", "letter")}
        return {kind: REGISTRY.get_sample_value("wallet_messages_sent_total", each[kind]) or 0.0 for kind in each}

    before = counted()
    server.rcpt_answers = ["550 5.1.1 nobody", "450 later"]
    for event in ("given up", "again", "sent"):
        await outbox.owe(event=event, template="password_code", recipient="a@x.kz", code=CODE)
    for event in ("one", "two"):
        await outbox.owe(event=event, template="welcome", recipient="a@x.kz")
    await delivery.run()
    # The answers meet whichever comes first.
    assert sum(counted().values()) - sum(before.values()) == len(server.accepted) == 3
    assert counted()["letter"] - before["letter"] == sum(
        1 for _, mail in server.accepted if "Welcome" in mail["Subject"]
    )


async def test_a_server_that_refuses_for_now_is_asked_again_after_growing_pauses(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    server.data_answers = ["451 4.3.0 not now", "421 4.3.2 later"]
    await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
    pauses = []
    for _ in range(2):
        assert (await delivery.run()).failed == 1
        row = await the_message()
        pauses.append(row["pause"].total_seconds())
        assert row["sent_at"] is None
        await due_again()
    assert row["last_error"] == "the mail server refused the text: 421 4.3.2"
    assert 0 < pauses[0] <= pause_seconds(1) < pauses[1] <= pause_seconds(2)
    assert (await delivery.run()).sent == 1
    assert len(server.accepted) == 1
    assert (await the_message())["last_error"] is None


async def test_a_refused_recipient_is_given_up_at_once_and_the_reason_quotes_nobody(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    server.rcpt_answers = ["550 5.1.1 <a@x.kz> has the code " + CODE]
    await outbox.owe(event="e", template="password_code", recipient="a@x.kz", code=CODE)
    assert (await delivery.run()).given_up == 1
    row = await the_message()
    assert row["last_error"] == "the mail server refused the recipient: 550 5.1.1"
    assert row["sealed"] is row["next_attempt_at"] is row["sent_at"] is None
    assert (await delivery.run()).given_up == 0


# What servers say of a recipient who does not exist: those of the first group have an enhanced code.
OF_THE_RECIPIENT = [
    "550 5.1.1 no such user",
    "550 5.1.1 <a@x.kz>: Recipient address rejected: User unknown in relay recipient table",  # Postfix
    "550 5.1.1 <a@x.kz>... User unknown",  # sendmail
    (
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n"
        "550-5.1.1 double-checking the recipient's email address for typos or\r\n"
        "550 5.1.1  https://support.google.com/mail/?p=NoSuchUser a1-2 - gsmtp"
    ),
    "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found",  # Exchange
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient a@x.kz not found by SMTP address lookup",  # Microsoft 365
    "550 5.1.2 no such domain",
    "553 5.1.2 We weren't able to find the recipient domain.",  # Google
    "553 5.1.3 The recipient address <a@x.kz> is not a valid RFC 5321 address.",
    "550 5.1.6 moved",
    "556 5.1.10 null MX",
    "550 5.2.1 disabled",
    "550 5.2.1 The email account that you tried to reach is inactive.",
    "554 5.1.1 no such user",
    "553 sorry (#5.1.1)",
    "550 sorry, no mailbox here by that name (#5.1.1 - chkuser)",  # qmail
    "550 no such user",
    "550 No Such User Here",  # cPanel
    "550 no such local user",
    "550 No such recipient",
    "550 Unknown user",
    "550 Unknown user a@x.kz",
    '550 unknown local-part "a" in domain "x.kz"',  # Exim
    "550 User unknown",
    "550 <a@x.kz>: Recipient address rejected: User unknown in local recipient table",
    "550 Recipient address rejected: unknown",
    "550 address rejected: user unknown",
    "550 <a@x.kz>, Recipient unknown",  # MDaemon
    "550 unknown mailbox",
    "550 unknown recipient",
    "550 User (a@x.kz) not found",
    "550 User not exist",
    "550 The user you are trying to contact does not exist",
    "550 The email account that you tried to reach does not exist",
    "550 recipient does not exist",
    "550 Mailbox <relay.denied@x.kz> doesn't exist",
    "550 Requested action not taken: mailbox unavailable",  # RFC 5321's words
    "550 mailbox is unavailable",
    "550 Requested action not taken: mailbox unavailable (S2017062302)",
    "550 Recipient not found",
    "550 That user does not exist",
    "550 no such person at this address",
    "550 Mailbox not found. http://service.mail.qq.com/cgi-bin/help?no=1000728",
    "552 1 Requested mail action aborted, mailbox not found",  # Yahoo
    "554 delivery error: dd This user doesn't have a yahoo.com account (a@yahoo.com) [0]",
    "550 Message was not accepted -- invalid mailbox.  Local mailbox a@mail.ru is unavailable: user not found",
    "550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550",
    "550 permanent failure for one or more recipients (a@x.kz:550 5.1.1 User unknown)",  # Barracuda
    "550 no mailbox here by that name",
    "550 not a valid mailbox",
    "556 this domain takes no mail",
]
# What they say of us, and what they say of both at once, or of nobody.
OF_US = [
    "550 Bad HELO",
    "550 no PTR record for your host",
    "550 your server is banned",
    "550 Service unavailable; your account is suspended",
    "550 Too many recipients received this hour",
    "550 Outgoing mail from your domain has been suspended",
    "550 Domain not activated; not allowed to send",
    "553 From address not verified",
    "550 unable to verify",
    "550",
    "550 no",
    "550 refused",
    "550 Administrative prohibition",
    "550 Message rejected",
    "550 Rejected by recipient",
    "550 address rejected",
    "550 Recipient address rejected: Access denied",
    "550 <a@x.kz>: Recipient address rejected: undeliverable address: host mx said: 550 banned; user unknown",
    "550 5.1.1 <a@x.kz>: Recipient address rejected: undeliverable address: host mx said: 550 5.7.1 banned",
    "550 Mailbox unavailable or access denied [MxtU9R2T 1.2.3.4]",  # QQ
    "550 mailbox unavailable (e.g., mailbox not found, no access, or command rejected for policy reasons)",
    "550 mailbox unavailable, try again later",
    "550 Requested action not taken: mailbox unavailable: rejected by our filter",
    "550 mailbox unavailable or not local",  # MailEnable, where it may not relay
    "550 mailbox not found (DMARC)",
    "550 user unknown; 1.2.3.4 is listed",
    "550 Unknown user name or bad password",
    "550 unknown username",
    "550 no such user, payment is due",
    "550 Mailbox full, user not found",
    "550 mailbox temporarily unavailable",
    "550 mailbox service unavailable",
    "550 unknown recipient domain",
    "550 unknown host",
    "550 unknown client",
    "550 Domain does not exist",
    "550 Too many invalid recipients",
    "550 Too many unknown users from your IP",
    "550 no such user; your account is suspended",
    "550 authenticated user not found",
    "550 SMTP user unknown",
    "550 account does not exist",
    "550 this account has been disabled",
    "550 subscription expired",
    "550 <no.such.user@x.kz>: not now",
    "550-no such user\r\n" + 5 * ("550-" + "for reasons " * 40 + "\r\n") + "550 so it is",
    "550 see https://x.kz/?user unknown to us",
    "550 <no-reply@wallet.example>: user unknown",
    "550 5.1.1 <no-reply@wallet.example>: user unknown",
    "550 5.1.1 Sender address rejected: user unknown",
    "550-Verification failed for <us@x.kz>\r\n550-No Such User Here\r\n550 Sender verify failed",  # Exim
    "550-Callout verification failed:\r\n550 550 User unknown",
    "550 Sender address rejected: User unknown in local recipient table",
    "550 Unrouteable address",
    "550 spam message rejected. Please visit http://help.mail.ru/notspam-support/id?c=a",
    "550 not local sender over smtp",  # mail.ru
    "550 5.7.1 No such user!",  # Yandex: the code is that of policies
    "550 5.4.1 Recipient address rejected: Access denied",  # Microsoft 365
    "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
    "552 5.2.3 Your message exceeded Google's message size limits",
    "551 he has moved",
    "551 this is no relay",
    "551 User not local; please try <b@x.kz>",
    "553 not a name of ours",
    "553 sorry, that domain isn't in my list of allowed rcpthosts",
    "554 Message rejected: Email address is not verified. The following identities failed the check",  # SES
    "530 5.7.0 Authentication required",
    "530 5.1.1 Authentication required",
    "530 who are you",
    "535 5.7.8 bad credentials",
    "538 5.7.11 encrypt first",
    "550 5.7.1 relaying denied",
    "554 5.7.1 <a@x.kz>: Relay access denied",
    "550 relay not permitted",
    "550 Sender verify failed",
    "550 5.1.0 <me@x.kz>: Sender address rejected",
    "550 5.1.8 access denied, bad outbound sender",
    "553 5.7.1 Sender address rejected: not owned by user",
    "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
    "550 5.4.5 Daily user sending quota exceeded",
    "550 Maximum credits exceeded",
    "552 5.2.2 Submission quota exceeded",
    "552 exceeded storage allocation",
    "552 5.3.4 too big",
    "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException",
    "554 transaction failed",
    "550 4.2.1 not now",
    "555 5.5.4 unsupported parameters",
    "500 what",
    "503 5.5.1 not now",
    "521 5.3.2 no mail here",
    "421 4.3.2 later",
    "450 4.1.1 greylisted",
    "451 5.1.1 which is it",
]


async def test_only_what_is_said_of_the_recipient_is_for_ever(server: MailServer) -> None:
    """By the code, the words and the command that is answered: MAIL is never about the recipient, and no text is."""
    smtp = Smtp(host="127.0.0.1", port=server.port, tls="none")
    for answers, permanent in (
        (server.rcpt_answers, OF_THE_RECIPIENT),
        (server.data_answers, [each for each in OF_THE_RECIPIENT if re.search(r"\A\d+[ -]5\.|#5\.", each)]),
        (server.mail_answers, []),
    ):
        for reply in OF_THE_RECIPIENT + OF_US:
            answers.append(reply)
            with pytest.raises(NotSent) as told:
                await send_mail(smtp, to="a@x.kz", letter=write("welcome", {}), reference="r")
            assert told.value.permanent == (reply in permanent), reply
            assert re.fullmatch(r"[\w ]+: \d{3}( \d\.\d+\.\d+)?", str(told.value)), told.value


async def test_a_login_or_a_sender_that_is_refused_can_be_mended(
    database: str, outbox: Outbox, server: MailServer
) -> None:
    await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
    there = Smtp(host="127.0.0.1", port=server.port, tls="none")
    async with mail_server(login=("us", "new password")) as strict:
        login = Smtp(host="127.0.0.1", port=strict.port, tls="none", username="us", password="old password")
        for wrong in (login, replace(there, sender="Wallet\n <x@y.kz>")):
            assert (await Delivery(SECRET, wrong, SmsGateway()).run()).failed == 1
            await due_again()
    assert (await Delivery(SECRET, there, SmsGateway()).run()).sent == 1


async def test_what_was_given_up_is_kept_with_why(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    server.rcpt_answers = ["550 5.1.1 nobody", *["530 5.7.0 who are you"] * (MAX_ATTEMPTS + 1)]
    await outbox.owe(event="recipient", template="welcome", recipient="a@x.kz")
    assert (await delivery.run()).given_up == 1
    await outbox.owe(event="attempts", template="welcome", recipient="b@x.kz")
    await outbox.owe(event="expired", template="reset_code", recipient="c@x.kz", code=CODE)
    await Message.raw("UPDATE message SET created_at = now() - interval '5 minutes' WHERE event = 'expired'")
    for _ in range(MAX_ATTEMPTS):
        await delivery.run()
        await due_again()
    rows = await Message.select(Message.event, Message.given_up_for, Message.given_up_at, Message.next_attempt_at)
    assert {row["event"]: row["given_up_for"] for row in rows} == {row["event"]: row["event"] for row in rows}
    assert all(row["given_up_at"] and row["next_attempt_at"] is None for row in rows)


async def test_a_message_that_is_refused_for_ever_is_given_up_after_all_attempts(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    server.data_answers = ["451 no"] * 99
    await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
    for _ in range(MAX_ATTEMPTS):
        await delivery.run()
        await due_again()
    row = await the_message()
    assert row["next_attempt_at"] is row["sent_at"] is None
    assert server.attempts == MAX_ATTEMPTS


async def test_an_expired_code_is_not_worth_sending(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    await outbox.owe(event="e", template="password_code", recipient="a@x.kz", code=CODE)
    await Message.raw("UPDATE message SET created_at = now() - interval '301 seconds'")
    assert (await delivery.run()).given_up == 1
    assert (server.accepted, (await the_message())["sealed"]) == ([], None)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of one that takes connections and says nothing."""
    listener = await asyncio.start_server(lambda *_: asyncio.sleep(GIVE_UP_SECONDS), "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a silent server to be given up waits in vain."""
    for setting in ("delivery.ATTEMPT_SECONDS", "mail.SEND_SECONDS", "lane.RUN_SECONDS"):
        monkeypatch.setattr(f"tasks.messages.{setting}", 10 * GIVE_UP_SECONDS)


async def test_a_silent_mail_server_delays_no_sms(database: str, endless: None, outbox: Outbox) -> None:
    async with silent_server() as port, web_server(lambda: (202, b"{}")) as web, asyncio.timeout(GIVE_UP_SECONDS):
        delivery = Delivery(SECRET, Smtp(host="127.0.0.1", port=port, tls="none"), SmsGateway(url=web.url))

        async def owe(event: str) -> None:
            for channel, to in (("email", "a@x.kz"), ("sms", "+77010000000")):
                own = f"{event} by {channel}"
                await outbox.owe(event=own, template="registration_code", channel=channel, recipient=to, code=CODE)  # type: ignore[arg-type]

        for number in range(PLACES + 1):
            await owe(f"{number}")
        stuck = asyncio.create_task(delivery.run())
        await until(lambda: len(web.requests) == PLACES + 1)
        # Whoever asks while the mail's run is stuck is not held by it, for the worker has few jobs at a time.
        await owe("late")
        assert (await delivery.run(channels=["email"])).sent == 0
        await delivery.run(channels=["sms"])
        await until(lambda: len(web.requests) == PLACES + 2)  # at once, or in the run that had not ended yet
        assert not stuck.done()
        stuck.cancel()
        await asyncio.wait([stuck])
    waiting = await Message.raw("SELECT channel, count(*) AS n FROM message WHERE sent_at IS NULL GROUP BY 1")
    assert waiting == [{"channel": "email", "n": PLACES + 2}]


async def test_an_attempt_ends_with_the_code_that_it_is_about(database: str, endless: None, outbox: Outbox) -> None:
    async with silent_server() as port, asyncio.timeout(GIVE_UP_SECONDS):
        delivery = Delivery(SECRET, Smtp(host="127.0.0.1", port=port, tls="none"), SmsGateway())
        await outbox.owe(event="e", template="password_code", recipient="a@x.kz", code=CODE)
        await Message.raw("UPDATE message SET created_at = now() - interval '294 seconds'")
        await delivery.run()
        await due_again()
        await delivery.run()
    assert (await the_message())["given_up_for"] == "expired"


async def test_what_becomes_due_while_others_are_under_way_is_sent_in_the_same_run(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    for number in range(3 * PLACES):
        await outbox.owe(event=f"{number}", template="welcome", recipient=f"p{number}@x.kz")
    runs = asyncio.gather(*(delivery.run() for _ in range(3)))
    await until(lambda: bool(server.accepted))
    await outbox.owe(event="code", template="password_code", recipient="c@x.kz", code=CODE)
    await delivery.run()
    await runs
    assert len({to for to, _ in server.accepted}) == len(server.accepted) == 3 * PLACES + 1


async def test_no_server_no_message_lost(database: str, outbox: Outbox, server: MailServer) -> None:
    await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
    nobody = Delivery(SECRET, Smtp(host="127.0.0.1", port=9, tls="none"), SmsGateway())
    assert (await nobody.run()).failed == 1
    assert (await the_message())["last_error"] == "the mail server could not be used (SMTPConnectError)"
    await due_again()
    there = Delivery(SECRET, Smtp(host="127.0.0.1", port=server.port, tls="none"), SmsGateway())
    assert (await there.run()).sent == 1


async def test_encryption_that_is_asked_for_is_never_done_without(
    database: str, outbox: Outbox, server: MailServer
) -> None:
    await outbox.owe(event="e", template="password_code", recipient="a@x.kz", code=CODE)
    for tls in ("starttls", "implicit"):
        delivery = Delivery(SECRET, Smtp(host="127.0.0.1", port=server.port, tls=tls), SmsGateway())
        assert (await delivery.run()).failed == 1
        await due_again()
    assert server.attempts == 0


async def test_several_workers_at_once_send_each_message_once(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    for number in range(30):
        await outbox.owe(event=f"e{number}", template="welcome", recipient=f"p{number}@x.kz")
    done = await asyncio.gather(*(delivery.run() for _ in range(4)))
    assert sum(each.sent for each in done) == 30
    assert sorted(to for to, _ in server.accepted) == sorted(f"p{number}@x.kz" for number in range(30))


async def test_a_worker_that_dies_after_sending_makes_one_repetition_with_the_same_message_id(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
    await delivery.run()
    # What the table looks like when the worker died between the server's 250 and its own mark, a lease ago.
    await Message.raw("UPDATE message SET sent_at = NULL, next_attempt_at = now()")
    await delivery.run()
    first, second = (mail["Message-ID"] for _, mail in server.accepted)
    assert first == second


async def test_an_address_that_is_none_harms_nobody_else(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer
) -> None:
    await outbox.owe(event="bad", template="welcome", recipient="x@y.kz>\r\nBcc: all@x.kz")
    await outbox.owe(event="nobody", template="welcome")
    await outbox.owe(event="good", template="welcome", recipient="a@x.kz")
    done = await delivery.run()
    assert (done.sent, done.given_up) == (1, 2)
    assert [to for to, _ in server.accepted] == ["a@x.kz"]


async def test_no_code_is_ever_logged(
    database: str, delivery: Delivery, outbox: Outbox, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.data_answers = [f"451 I saw {CODE}", f"554 I saw {CODE} again"]
    await outbox.owe(event="e", template="password_code", recipient="a@x.kz", code=CODE)
    await delivery.run()
    await due_again()
    await delivery.run()
    ours = [record for record in caplog.records if record.name.startswith("tasks.")]
    assert ours
    assert not any(CODE in record.getMessage() for record in ours)


async def test_a_code_goes_out_by_sms_through_the_gateway(database: str, server: MailServer, outbox: Outbox) -> None:
    answers = [(503, b""), (202, b"{}")]
    async with web_server(lambda: answers.pop(0)) as web:
        gateway = SmsGateway(url=f"{web.url}/send", token="gateway-token", sender="Wallet")
        delivery = Delivery(SECRET, Smtp(host="127.0.0.1", port=server.port, tls="none"), gateway)
        await outbox.owe(event="e", template="registration_code", channel="sms", recipient="+77010000000", code=CODE)
        first = await delivery.run()
        await due_again()
        second = await delivery.run()
    assert (first.sent, first.failed, second.sent) == (0, 1, 1)
    head, _, body = web.requests[1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /send ")
    assert b"Authorization: Bearer gateway-token" in head
    sms = msgspec.json.decode(body)
    assert (sms["to"], sms["from"]) == ("+77010000000", "Wallet")
    assert CODE in sms["text"]


async def test_no_answer_of_a_gateway_loses_an_sms() -> None:
    """It has no status for a wrong number alone: a sender or a template that it does not know is a 422 as well."""
    refusals = [*range(400, 432), 451, *range(500, 512)]
    answers = [*refusals, 200]
    async with web_server(lambda: (answers.pop(0), b"")) as web:
        gateway = SmsGateway(url=web.url, sender="not ours")
        for status in refusals:
            with pytest.raises(NotSent) as told:
                await send_sms(gateway, to="+77010000000", text=CODE, reference="r")
            assert (str(told.value), told.value.permanent) == (f"the SMS gateway answered {status}", False)
        await send_sms(gateway, to="+77010000000", text=CODE, reference="r")


async def test_an_sms_goes_out_once_the_sender_is_mended(database: str, outbox: Outbox) -> None:
    answers = [(422, b"no such sender"), (202, b"{}")]
    async with web_server(lambda: answers.pop(0)) as web:
        delivery = Delivery(SECRET, Smtp(), SmsGateway(url=web.url))
        await outbox.owe(event="e", template="registration_code", channel="sms", recipient="+7", code=CODE)
        assert (await delivery.run()).failed == 1
        assert (await the_message())["last_error"] == "the SMS gateway answered 422"
        await due_again()
        assert (await delivery.run()).sent == 1


async def test_a_200_without_the_success_that_was_agreed_is_tried_again(database: str, outbox: Outbox) -> None:
    answers = [
        (200, b'{"status": "error"}'),
        (200, b"x" * 70_000),
        (500, b'{"status": "ok"}'),
        (200, b'{"status": "ok"}'),
    ]
    async with web_server(lambda: answers.pop(0)) as web:
        delivery = Delivery(SECRET, Smtp(), SmsGateway(url=web.url, success="status=ok"))
        await outbox.owe(event="e", template="registration_code", channel="sms", recipient="+77010000000", code=CODE)
        for outcome in ((0, 1), (0, 1), (0, 1), (1, 0)):
            done = await delivery.run()
            assert (done.sent, done.failed) == outcome
            await due_again()


def test_the_member_and_the_value_that_mean_success() -> None:
    for wanted, body, success in (
        ("status=ok", b'{"status": "ok"}', True),
        ("status=ok", b'{"status": null}', False),
        ("status=ok", b"ok", False),
        ("status=ok", b"", False),
        ("status=ok", b"[" * 60_000, False),
        ("status=0", b'{"status": 0}', True),
        ("status=0", b'{"status": "0"}', True),
        ("status=0", b'{"status": false}', False),
        ("sent=true", b'{"sent": true}', True),
        ("error=null", b'{"error": null}', True),
        ("error=null", b"{}", False),
        ("messages.0.status=0", b'{"messages": [{"status": "0"}]}', True),
        ("messages.0.status=0", b'{"messages": [{"status": "4"}]}', False),
        ("messages.0.status=0", b'{"messages": []}', False),
        ("messages.x.status=0", b'{"messages": [{"status": "0"}]}', False),
        ("result=a=b", b'{"result": "a=b"}', True),
    ):
        assert says(body, wanted) == success, (wanted, body[:50])
    for wrong in ("status", "=ok", "status=", "a..b=1"):
        with pytest.raises(ValueError, match="SUCCESS must be"):
            SmsGateway(success=wrong)


async def test_what_has_no_words_for_an_sms_is_not_sent_as_an_empty_one(database: str, outbox: Outbox) -> None:
    async with web_server(lambda: (202, b"{}")) as web:
        delivery = Delivery(SECRET, Smtp(), SmsGateway(url=web.url))
        await outbox.owe(event="e", template="reset_code", channel="sms", recipient="+77010000000", code=CODE)
        assert (await delivery.run()).given_up == 1
    assert web.requests == []
    assert (await the_message())["last_error"] == "this message is not for SMS"
