"""Mail when servers refuse, hang, die and forget: nothing is lost, nothing is sent twice without need."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from db.tables import Message
from tasks.messages.delivery import MAX_ATTEMPTS, Delivery, pause_seconds
from tasks.messages.mail import Smtp
from tasks.messages.outbox import Outbox
from tasks.messages.sms import SmsGateway
from tasks.queue import open_queue
from tests.helpers.third_parties import MailServer, mail_server, web_server

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


async def test_a_gateway_that_refuses_the_number_is_not_asked_again(database: str, outbox: Outbox) -> None:
    async with web_server(lambda: (422, b"no such number")) as web:
        delivery = Delivery(SECRET, Smtp(), SmsGateway(url=web.url))
        await outbox.owe(event="e", template="registration_code", channel="sms", recipient="+7", code=CODE)
        assert (await delivery.run()).given_up == 1
    assert (await the_message())["last_error"] == "the SMS gateway answered 422"


async def test_what_has_no_words_for_an_sms_is_not_sent_as_an_empty_one(database: str, outbox: Outbox) -> None:
    async with web_server(lambda: (202, b"{}")) as web:
        delivery = Delivery(SECRET, Smtp(), SmsGateway(url=web.url))
        await outbox.owe(event="e", template="reset_code", channel="sms", recipient="+77010000000", code=CODE)
        assert (await delivery.run()).given_up == 1
    assert web.requests == []
    assert (await the_message())["last_error"] == "this message is not for SMS"
