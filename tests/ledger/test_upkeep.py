"""Upkeep forgets what is old, keeps what is promised, and says when the ledger does not hold."""

from uuid import uuid4

import msgspec
from redis.asyncio import Redis

from db.tables import IdempotencyKey, Message, RefreshToken, User
from tasks import upkeep
from tasks.upkeep import AUDIT_KEY, audit_and_keep, clean_up

DAY = 86_400


async def used_keys(*, count: int, days_ago: float) -> None:
    await IdempotencyKey.raw(
        'INSERT INTO idempotency_key (id, "user", key, fingerprint, transaction, balance_after, created_at)'
        " SELECT gen_random_uuid(), gen_random_uuid(), 'k', '', gen_random_uuid(), 0, now() - make_interval(secs => {})"
        " FROM generate_series(1, {})",
        days_ago * DAY,
        count,
    )


async def test_a_key_lives_longer_than_the_seven_days_that_are_promised(database: str) -> None:
    await used_keys(count=1, days_ago=7.9)
    await used_keys(count=1, days_ago=8.1)
    assert (await clean_up())["idempotency_key"] == 1
    assert await IdempotencyKey.count() == 1
    await IdempotencyKey.delete(force=True)  # it belongs to no transaction, which the audit would notice


async def test_a_refresh_token_is_forgotten_a_day_after_its_end(database: str) -> None:
    user_id = uuid4()
    await User.insert(User(id=user_id, email="a@x.kz", phone_number="+7", password_hash="x"))
    for days in (1, -0.9, -1.1):
        await RefreshToken.raw(
            'INSERT INTO refresh_token (id, family, "user", token_hash, expires_at)'
            " VALUES (gen_random_uuid(), gen_random_uuid(), {}, 'h', now() + make_interval(secs => {}))",
            user_id,
            days * DAY,
        )
    assert (await clean_up())["refresh_token"] == 1


async def test_a_message_is_forgotten_when_it_is_old_and_nobody_waits_for_it(database: str) -> None:
    for event, days, next_attempt in (("sent", 91, "NULL"), ("young", 89, "NULL"), ("owed", 91, "now()")):
        await Message.raw(
            "INSERT INTO message (id, event, template, params, created_at, next_attempt_at)"
            " VALUES (gen_random_uuid(), {}, 'welcome', '[]'::jsonb, now() - make_interval(days => {}),"
            f" {next_attempt})",
            event,
            days,
        )
    assert (await clean_up())["message"] == 1
    assert {row["event"] for row in await Message.select(Message.event)} == {"young", "owed"}


async def test_everything_old_goes_in_batches(database: str) -> None:
    await used_keys(count=2 * upkeep.BATCH + 1, days_ago=9)
    assert (await clean_up())["idempotency_key"] == 2 * upkeep.BATCH + 1


async def test_the_last_audit_is_kept_where_health_can_see_it(database: str, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert (await audit_and_keep(redis)).ok
        kept = msgspec.json.decode(await redis.get(AUDIT_KEY))
    assert kept["ok"] is True
    assert kept["report"]["findings"] == []
