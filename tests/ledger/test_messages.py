"""A message is owed with its event or not at all, once, and its code is nowhere to be read."""

from uuid import uuid4

import msgspec
import pytest
from structlog.contextvars import bound_contextvars

from db.tables import Message, User
from db.transaction import transaction
from tasks.messages.delivery import claim
from tasks.messages.outbox import Outbox
from tasks.messages.sealing import Seal
from tasks.queue import open_queue

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
def outbox(redis_url: str) -> Outbox:
    return Outbox(open_queue(redis_url), SECRET, sms=True)


async def test_a_message_is_kept_with_what_it_tells_of_or_not_at_all(database: str, outbox: Outbox) -> None:
    async def owe_and_fail() -> None:
        async with transaction():
            await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await owe_and_fail()
    assert await Message.count() == 0


async def test_the_second_message_about_an_event_is_not_written(database: str, outbox: Outbox) -> None:
    for recipient in ("first@x.kz", "second@x.kz"):
        async with transaction():
            await outbox.owe(event="e", template="welcome", recipient=recipient)
    assert await Message.select(Message.recipient) == [{"recipient": "first@x.kz"}]


async def test_a_code_is_stored_sealed(database: str, outbox: Outbox) -> None:
    async with transaction():
        await outbox.owe(event="e", template="registration_code", recipient="a@x.kz", code="482913")
    (row,) = await Message.raw("SELECT message::text AS everything, channel, recipient, sealed FROM message")
    assert (row["channel"], row["recipient"]) == ("email", "a@x.kz")
    assert "482913" not in row["everything"]
    assert Seal(SECRET).open(bytes(row["sealed"])) == "482913"


async def test_without_a_gateway_there_is_no_sms(database: str, redis_url: str, outbox: Outbox) -> None:
    for each in (outbox, Outbox(open_queue(redis_url), SECRET, sms=False)):
        event = "gateway" if each.sms else "none"
        await each.owe(event=event, template="reset_attempt", channel="sms", recipient="+77010000000")
    rows = await Message.select(Message.event, Message.channel, Message.recipient)
    assert rows == [{"event": "gateway", "channel": "sms", "recipient": "+77010000000"}]


async def test_what_is_erased_in_the_same_commit_is_sent_to_nobody(database: str, outbox: Outbox) -> None:
    async with transaction():
        for event in ("kept", "erased", "erased too"):
            await outbox.owe(event=event, template="welcome", recipient=f"{event[0]}@x.kz")
        await outbox.erase("erased", "erased too", "never written")
        await outbox.erase()
    assert [each.recipient for each in await claim(8)] == ["k@x.kz"]


async def test_what_the_ledger_owes_goes_to_the_users_own_address(database: str) -> None:
    user_id = uuid4()
    await User.insert(User(id=user_id, email="own@x.kz", phone_number="+77010000001", password_hash="x"))
    await Message.raw(
        'INSERT INTO message (id, event, "user", template, params) VALUES ({}, {}, {}, {}, {}::jsonb)',
        uuid4(),
        "wallet_blocked:1:2026",
        user_id,
        "wallet_blocked",
        msgspec.json.encode({"wallet_number": "4400000017", "amount": "200.00", "currency": "KZT"}).decode(),
    )
    claimed = await claim(8)
    assert [(each.recipient, each.params["currency"]) for each in claimed] == [("own@x.kz", "KZT")]


async def test_a_claimed_message_is_nobody_elses_until_its_lease_ends(database: str, outbox: Outbox) -> None:
    await outbox.owe(event="e", template="welcome", recipient="a@x.kz")
    (first,) = await claim(8)
    assert await claim(8) == []
    await Message.raw("UPDATE message SET next_attempt_at = now()")
    (second,) = await claim(8)
    assert (first.attempts, second.attempts) == (1, 2)


async def test_codes_go_before_notices(database: str, outbox: Outbox) -> None:
    await outbox.owe(event="notice", template="welcome", recipient="a@x.kz")
    await outbox.owe(event="code", template="password_code", recipient="b@x.kz", code="482913")
    assert [each.recipient for each in await claim(1)] == ["b@x.kz"]


async def test_a_message_knows_the_request_that_it_is_owed_by(database: str, outbox: Outbox) -> None:
    with bound_contextvars(request_id="told-by-the-client"):
        await outbox.owe(event="asked", template="welcome", recipient="a@x.kz")
    await outbox.owe(event="by itself", template="welcome", recipient="b@x.kz")
    claimed = {each.recipient: each.request_id for each in await claim(8)}
    assert claimed == {"a@x.kz": "told-by-the-client", "b@x.kz": None}
