"""Upkeep forgets what is old, keeps what is promised, and says when the ledger does not hold."""

from uuid import uuid4

import msgspec
from redis.asyncio import Redis

from db.tables import IdempotencyKey, Message, RefreshToken, User
from tasks import upkeep
from tasks.upkeep import AUDIT_KEY, audit_and_keep, clean_up


async def test_only_what_nobody_needs_is_forgotten(database: str, monkeypatch: object) -> None:
    user_id = uuid4()
    await User.insert(User(id=user_id, email="a@x.kz", phone_number="+7", password_hash="x"))
    for days in (7.9, 8.1, 30, 31):
        await IdempotencyKey.raw(
            'INSERT INTO idempotency_key (id, "user", key, fingerprint, transaction, balance_after, created_at)'
            " VALUES ({}, {}, 'k', '', {}, 0, now() - make_interval(secs => {}))",
            uuid4(),
            user_id,
            uuid4(),
            days * 86_400,
        )
        await RefreshToken.raw(
            'INSERT INTO refresh_token (family, "user", token_hash, expires_at)'
            " VALUES ({}, {}, 'h', now() + make_interval(secs => {}))",
            uuid4(),
            user_id,
            (8 - days) * 86_400 * 10,
        )
    for event, days, due in (("sent", 91, None), ("young", 89, None), ("owed", 91, "now")):
        await Message.raw(
            "INSERT INTO message (event, template, params, created_at, next_attempt_at)"
            " VALUES ({}, 'welcome', '{{}}'::jsonb, now() - make_interval(days => {}), {}::timestamptz)".replace(
                "{{}}", "[]"
            ),
            event,
            days,
            None if due is None else (await Message.raw("SELECT now() AS now"))[0]["now"],
        )
    assert await clean_up() == {"idempotency_key": 3, "refresh_token": 2, "message": 1}
    assert {row["event"] for row in await Message.select(Message.event)} == {"young", "owed"}
    assert await clean_up() == {"idempotency_key": 0, "refresh_token": 0, "message": 0}


async def test_everything_old_goes_in_batches(database: str) -> None:
    await IdempotencyKey.raw(
        'INSERT INTO idempotency_key (id, "user", key, fingerprint, transaction, balance_after, created_at)'
        " SELECT gen_random_uuid(), gen_random_uuid(), 'k', '', gen_random_uuid(), 0, now() - interval '9 days'"
        " FROM generate_series(1, {})",
        2 * upkeep.BATCH + 1,
    )
    assert (await clean_up())["idempotency_key"] == 2 * upkeep.BATCH + 1


async def test_the_last_audit_is_kept_where_health_can_see_it(database: str, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert (await audit_and_keep(redis)).ok
        kept = msgspec.json.decode(await redis.get(AUDIT_KEY))
    assert kept["ok"] is True
    assert kept["report"]["findings"] == []
