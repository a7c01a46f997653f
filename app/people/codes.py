"""
One-time codes: six digits that prove that someone reads the mail of an address, or the SMS of a phone.

They live in Redis for five minutes.
"""

import hmac
import logging
import secrets
from asyncio import Semaphore, timeout
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.engine.redis_client import redis_fault
from actors.engine.seldom import Seldom
from actors.refusals import FieldError, Refusal, Unavailable
from app.http.problems import ValidationFailed
from app.limits.windows import WINDOWS

log = logging.getLogger(__name__)
_away = Seldom(log, "one-time codes can't be kept or read: Redis %s")

CODE_SECONDS = 300
TRIES_MAX = 5
STORE_SECONDS = 5.0
# So many use Redis at once; whoever waits for that does so within `STORE_SECONDS`.
TURNS_MAX = 20

Purpose = Literal["registration", "password", "reset"]

# One key, so one slot of a cluster, and Redis runs a script alone: of any number of parallel guesses five are compared.
# A guess without the code for the phone, or with one that nobody was sent, is no guess: it answers 0. One guess has a
# digest for each secret that counts, since another process may have opened the session under another. A code that would
# live for longer than any may dates from before Redis's clock was set back, and nobody knows how old it is.
_REDEEM = f"""{WINDOWS}
forget_if_it_outlasts(KEYS[1], ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'digest', 'phone')
if not kept[1] then return false end
if (kept[2] or '0') ~= ARGV[2] then return 0 end
local tries = redis.call('HINCRBY', KEYS[1], 'tries', 1)
for digest = 4, #ARGV do
    if kept[1] == ARGV[digest] then
        local found = {{redis.call('HGET', KEYS[1], 'pending'), tries, redis.call('PTTL', KEYS[1])}}
        redis.call('DEL', KEYS[1])
        return found
    end
end
if tries >= tonumber(ARGV[1]) then redis.call('DEL', KEYS[1]) end
return false
"""


class InvalidCode(Refusal):
    """Wrong, expired, spent, tried too often, or of a session that never was: they look the same on purpose."""

    code = "invalid_code"
    title = "The code is not valid."
    detail = "It is wrong, has expired or was used already. Check it, or start again to get a new one."


class CodesUnavailable(Unavailable):
    """One-time codes are kept in Redis, which can't be used."""

    detail = "One-time codes are kept in Redis, which can't be used now. Nothing has happened. Try again in a moment."


class AwaitedCode(Struct, frozen=True, kw_only=True):
    """The session that waits for a code, and for how many seconds it will."""

    session_id: UUID
    expires_in: int


class AwaitedCodes(AwaitedCode, frozen=True, kw_only=True):
    """The session that waits for the codes of a registration, and for how many seconds it will."""

    channels: Annotated[
        list[Literal["email", "sms"]],
        Meta(description="How codes are sent: with `sms`, `phone_code` is required.", examples=[["email", "sms"]]),
    ]


class Codes:
    """
    Sessions that wait for their codes. Redis knows a keyed digest of them, never the codes.

    Every method raises `CodesUnavailable` where Redis does not answer within five seconds, or takes no writes.
    """

    def __init__(self, redis: Redis, secret: str, *, others: Iterable[str] = ()) -> None:
        """`others` are the secrets besides `secret` under which other processes may open sessions."""
        self._redis = redis
        self._keys = [hmac.digest(each.encode(), b"wallet one-time codes", "sha256") for each in (secret, *others)]
        self._redeem = redis.register_script(_REDEEM)
        self._turns = Semaphore(TURNS_MAX)

    async def open(self, purpose: Purpose, pending: bytes, *, owner: UUID | None = None) -> tuple[AwaitedCode, str]:
        """A new session that keeps `pending` until its code is given, and that code."""
        session_id, code = uuid4(), _digits()
        await self._keep(_key(purpose, session_id, owner), self._digests(session_id, code)[0], pending, phone=False)
        return AwaitedCode(session_id=session_id, expires_in=CODE_SECONDS), code

    async def open_registration(
        self, pending: bytes, *, sms: bool, redeemable: bool
    ) -> tuple[AwaitedCodes, str, str | None]:
        """
        A new session that keeps `pending`, the code for the email address and, with `sms`, the one for the phone.

        Where it is not redeemable, no codes redeem it; in all else it is like any other, and keeping it costs the same.
        """
        session_id, code, phone_code = uuid4(), _digits(), _digits() if sms else None
        digest = self._digests(session_id, code, phone_code)[0] if redeemable else secrets.token_hex(32)
        await self._keep(_key("registration", session_id, None), digest, pending, phone=sms)
        channels: list[Literal["email", "sms"]] = ["email", "sms"] if sms else ["email"]
        return AwaitedCodes(session_id=session_id, expires_in=CODE_SECONDS, channels=channels), code, phone_code

    @asynccontextmanager
    async def redeemed(
        self,
        purpose: Purpose,
        session_id: UUID,
        code: str,
        phone_code: str | None = None,
        *,
        owner: UUID | None = None,
    ) -> AsyncIterator[bytes]:
        """
        Spend the code, or both codes, and hand out what was pending.

        Where the block fails, for want of a database, they come back with the life and the tries they had left; so they
        do where what came along with them was not valid. Any other refusal is an answer, and they stay spent.

        Raises:
            InvalidCode: one of them is wrong, or there is no such session.
            ValidationFailed: the session waits for a code by SMS and none was given, or the other way round. Whether
                it waits for one was settled when it was opened. No try is lost.
        """
        by_phone = bool(phone_code and phone_code.strip())
        digests = self._digests(session_id, code, phone_code if by_phone else None)
        key = _key(purpose, session_id, owner)
        async with self._turn():
            found = await self._redeem(keys=[key], args=[TRIES_MAX, int(by_phone), CODE_SECONDS * 1000, *digests])
        if found == 0:
            message = "No code was sent by SMS. Leave it out." if by_phone else "Give the code that was sent by SMS."
            raise ValidationFailed(FieldError(field="phone_code", message=message))
        if not found:
            raise InvalidCode()
        pending, tries, left_ms = found
        ends_at = monotonic() + left_ms / 1000
        try:
            yield pending if isinstance(pending, bytes) else pending.encode()
        except BaseException as failure:
            if not isinstance(failure, Refusal) or isinstance(failure, ValidationFailed) or failure.status >= 500:
                kept = {"digest": digests[0], "phone": int(by_phone), "pending": pending, "tries": int(tries) - 1}
                await self._put_back(key, kept, ends_at)
            raise

    async def _keep(self, key: str, digest: str, pending: bytes, *, phone: bool) -> None:
        async with self._turn(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping={"digest": digest, "phone": int(phone), "pending": pending, "tries": 0})
            pipe.expire(key, CODE_SECONDS)
            await pipe.execute()

    async def _put_back(self, key: str, kept: dict[str, Any], ends_at: float) -> None:
        # The reason for putting it back is what the caller must hear of, not that this failed as well.
        try:
            async with self._turn(), self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(key, mapping=kept)
                pipe.pexpire(key, max(int((ends_at - monotonic()) * 1000), 1))
                await pipe.execute()
        except CodesUnavailable:
            log.warning("a one-time code could not be put back")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Use Redis in the block, when it is our turn. What ails it is told as `CodesUnavailable`."""
        try:
            async with timeout(STORE_SECONDS), self._turns:
                yield
        except (RedisError, OSError) as error:  # a `TimeoutError` is an `OSError`
            _away.warn(redis_fault(error))
            raise CodesUnavailable() from None

    def _digests(self, session_id: UUID, code: str, phone_code: str | None = None) -> list[str]:
        # One digest of both: they are compared as one, and nobody can tell which was wrong.
        text = code if phone_code is None else f"{code}\0{phone_code}"
        return [hmac.digest(key, session_id.bytes + text.encode(), "sha256").hex() for key in self._keys]


def _digits() -> str:
    return f"{secrets.randbelow(1_000_000):06d}"


def _key(purpose: Purpose, session_id: UUID, owner: UUID | None) -> str:
    # The owner is part of the name: for anybody else the session does not exist, and their guesses don't count.
    return f"wallet:code:{purpose}:{owner}:{session_id}" if owner else f"wallet:code:{purpose}:{session_id}"
