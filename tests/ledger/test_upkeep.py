"""Upkeep forgets what is old, keeps what is promised, and says when the ledger does not hold."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from asyncpg.exceptions import LockNotAvailableError
from piccolo_api.session_auth.tables import SessionsBase

from db.audit import RESULTS_KEPT, AuditReport, keep_result, last_result
from db.engine import Pool, connection_pool
from db.tables import AuditResult, IdempotencyKey, Message, RefreshToken, UpkeepClock, User
from tasks import clock, upkeep
from tasks.upkeep import audit_and_keep, clean_up
from tests.helpers.banks import banks, performed, receipts
from tests.helpers.postgres import connected
from tests.helpers.purses import purses

DAY = 86_400
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NO_IMAGES = Path("/nowhere")


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
    assert (await clean_up(NO_IMAGES))["idempotency_key"] == 1
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
    assert (await clean_up(NO_IMAGES))["refresh_token"] == 1


async def test_a_message_is_forgotten_when_it_is_old_and_nobody_waits_for_it(database: str) -> None:
    for event, days, next_attempt in (("sent", 91, "NULL"), ("young", 89, "NULL"), ("owed", 91, "now()")):
        await Message.raw(
            "INSERT INTO message (id, event, template, params, created_at, next_attempt_at)"
            " VALUES (gen_random_uuid(), {}, 'welcome', '[]'::jsonb, now() - make_interval(days => {}),"
            f" {next_attempt})",
            event,
            days,
        )
    assert (await clean_up(NO_IMAGES))["message"] == 1
    assert {row["event"] for row in await Message.select(Message.event)} == {"young", "owed"}


async def test_a_session_of_staff_is_forgotten_when_it_has_surely_ended(database: str) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    for number, hours in enumerate((1, -24, -72)):
        session = SessionsBase(user_id=1, token=str(number), expiry_date=now + timedelta(hours=hours))
        await session.save()
    assert (await clean_up(NO_IMAGES))["sessions"] == 1
    assert {row["token"] for row in await SessionsBase.select(SessionsBase.token)} == {"0", "1"}


async def test_what_somebody_has_locked_stays_and_everything_else_goes(
    database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connection_pool(Pool(lock_timeout_seconds=0.1)), connected(database_url) as other:
        for days in (8.1, 9, 10):
            await used_keys(count=1, days_ago=days)
        async with other.transaction():
            await other.execute("SELECT FROM idempotency_key ORDER BY created_at LIMIT 1 FOR UPDATE")
            assert (await clean_up(NO_IMAGES))["idempotency_key"] == 2
        session = SessionsBase(user_id=1, token="old", expiry_date=LONG_AGO.replace(tzinfo=None))
        await session.save()
        async with other.transaction():
            await other.execute("LOCK TABLE idempotency_key")
            with pytest.raises(LockNotAvailableError):
                await clean_up(NO_IMAGES)
        assert "idempotency_key" in caplog.text
        assert (await SessionsBase.count(), await IdempotencyKey.count()) == (0, 1)


async def test_everything_old_goes_in_batches(database: str) -> None:
    await used_keys(count=2 * upkeep.BATCH + 1, days_ago=9)
    assert (await clean_up(NO_IMAGES))["idempotency_key"] == 2 * upkeep.BATCH + 1


async def test_an_audit_is_kept_in_the_database_and_the_last_hundred_stay(database: str, tmp_path: Path) -> None:
    assert await last_result() is None
    report = await audit_and_keep()
    assert report.ok
    kept = await last_result()
    assert kept
    assert kept.report == report
    for _ in range(RESULTS_KEPT + 1):
        await keep_result(AuditReport(ok=False, checked_at=LONG_AGO, seconds=1, wallets=0, transactions=0, entries=0))
    assert (await clean_up(tmp_path))["audit_result"] == 2
    kept = await last_result()
    assert kept
    assert (kept.report.ok, kept.report.checked_at, await AuditResult.count()) == (False, LONG_AGO, RESULTS_KEPT)


CLOCK = "UPDATE upkeep_clock SET seen_at = seen_at + {}::interval, doubted_at = doubted_at + {}::interval"


async def time_passes(by: timedelta) -> None:
    """Let everything that upkeep knows of be older, or younger, by so much; and nobody looks meanwhile."""
    await UpkeepClock.raw(CLOCK, -by, -by)
    await IdempotencyKey.raw("UPDATE idempotency_key SET created_at = created_at - {}::interval", by)
    await RefreshToken.raw("UPDATE refresh_token SET expires_at = expires_at - {}::interval", by)


async def things_of_today(user_id: UUID) -> None:
    """What the promises are about."""
    await used_keys(count=1, days_ago=0)
    await RefreshToken.raw(
        'INSERT INTO refresh_token (id, family, "user", token_hash, expires_at)'
        " VALUES (gen_random_uuid(), gen_random_uuid(), {}, 'h', now() + interval '14 days')",
        user_id,
    )


@pytest.mark.parametrize("jump", [timedelta(days=days) for days in (-3650, -40, -1, 0.1, 2, 9, 40, 3650)])
async def test_a_clock_that_jumps_for_a_moment_takes_nothing_that_is_promised(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, jump: timedelta
) -> None:
    """Ahead or back, and back again: while it lasts, afterwards, and as long as it may still be felt."""
    user_id = uuid4()
    await User.insert(User(id=user_id, email="a@x.kz", phone_number="+7", password_hash="x"))
    old = tmp_path / f"{'a' * 32}.png"
    old.write_bytes(b"image")
    os.utime(old, (0, 0))
    await clock.look()
    await things_of_today(user_id)
    await time_passes(jump)
    for _ in range(3):
        assert await clean_up(tmp_path) == {"clock_in_doubt": 1}
    await things_of_today(user_id)  # dated by the wrong clock
    await time_passes(-jump)
    for day in range(7):
        await time_passes(timedelta(0) if day == 0 else timedelta(minutes=30))
        assert await clean_up(tmp_path) == {"clock_in_doubt": 1}
        assert await clock.in_doubt()
    assert (await IdempotencyKey.count(), await RefreshToken.count(), old.exists()) == (2, 2, True)
    assert len([each for each in caplog.records if "has jumped to" in each.message]) == 2, "once for each jump"

    # It goes on steadily, and somebody looks all the time.
    for _ in range(200):
        await UpkeepClock.raw(CLOCK, timedelta(minutes=-59), timedelta(minutes=-59))
        await clock.look()
    assert (await clean_up(tmp_path))["image"] == 1
    assert not await clock.in_doubt()
    await IdempotencyKey.delete(force=True)


async def test_what_is_old_is_told_by_the_look_and_not_by_a_clock_that_jumps_meanwhile(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await used_keys(count=1, days_ago=9)
    (tmp_path / f"{'a' * 32}.png").write_bytes(b"image")

    async def look() -> datetime:
        return datetime.now(UTC) - timedelta(days=2)

    monkeypatch.setattr(upkeep, "look", look)
    monkeypatch.setattr("tasks.upkeep.time.time", lambda: datetime.now(UTC).timestamp() + 40 * DAY)
    assert set((await clean_up(tmp_path)).values()) == {0}
    await IdempotencyKey.delete(force=True)


async def test_workers_that_were_away_for_a_while_are_no_jump_and_a_first_look_is_none(database: str) -> None:
    await used_keys(count=1, days_ago=9)
    assert (await clean_up(NO_IMAGES))["idempotency_key"] == 1
    for minutes in (59, 59, -0.9):
        await time_passes(timedelta(minutes=minutes))
        await used_keys(count=1, days_ago=9)
        assert (await clean_up(NO_IMAGES))["idempotency_key"] == 1
    await time_passes(timedelta(minutes=61))
    assert await clean_up(NO_IMAGES) == {"clock_in_doubt": 1}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_images_of_nobody_go_after_a_day(database: str, tmp_path: Path) -> None:
    named, nameless, young = (f"{digit * 32}.png" for digit in "abc")
    for name in (named, nameless, young, "README"):
        (tmp_path / name).write_bytes(b"image")
        if name != young:
            os.utime(tmp_path / name, (0, 0))
    await User.insert(User(email="a@x.kz", phone_number="+7", password_hash="x", profile_image=named))
    assert (await clean_up(tmp_path))["image"] == 1
    assert names_in(tmp_path) == {named, young, "README"}
    assert (await clean_up(tmp_path / "not there"))["image"] == 0


async def test_what_is_promised_stays_while_it_runs_beside_payments(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    """Every key of these payments still answers the same afterwards, and everything old is gone."""
    async with banks(1, redis_url) as (bank,):
        await used_keys(count=2 * upkeep.BATCH + 1, days_ago=9)
        alice, bob = await purses(2, holding="1000.00", bank=bank)
        orders = [alice.send("1.00", bob, key=f"k{number}") for number in range(200)]
        paying = asyncio.create_task(performed(bank, orders))
        gone = await clean_up(tmp_path)
        paid = receipts(await paying)
        await clean_up(tmp_path)
        again = receipts(await performed(bank, [alice.send("1.00", bob, key=f"k{number}") for number in range(200)]))
        assert gone["idempotency_key"] == 2 * upkeep.BATCH + 1
        assert [each.transaction for each in paid] == [each.transaction for each in again]
        assert await alice.balance() == "800.00"
