"""One-time codes: six digits that prove someone reads the mail of an address. They live in Redis for five minutes."""

import hmac
import logging
import secrets
from asyncio import Semaphore, timeout
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal
from uuid import UUID, uuid4

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.refusals import Refusal
from app.http.problems import ValidationFailed

log = logging.getLogger(__name__)

CODE_SECONDS = 300
TRIES_MAX = 5
STORE_SECONDS = 5.0
# So many use Redis at once; whoever waits for that does so within `STORE_SECONDS`.
TURNS_MAX = 20

Purpose = Literal["registration", "password", "reset"]

# One key, so one slot of a cluster, and Redis runs a script alone: of any number of parallel guesses five are compared.
_REDEEM = """
local right = redis.call('HGET', KEYS[1], 'digest')
if not right then return false end
local tries = redis.call('HINCRBY', KEYS[1], 'tries', 1)
if right == ARGV[1] then
    local found = {redis.call('HGET', KEYS[1], 'pending'), tries, redis.call('PEXPIRETIME', KEYS[1])}
    redis.call('DEL', KEYS[1])
    return found
end
if tries >= tonumber(ARGV[2]) then redis.call('DEL', KEYS[1]) end
return false
"""


class InvalidCode(Refusal):
    """Wrong, expired, spent, tried too often, or of a session that never was: they look the same on purpose."""

    code = "invalid_code"
    title = "The code is not valid."
    detail = "It is wrong, has expired or was used already. Check it, or start again to get a new one."


class AwaitedCode(Struct, frozen=True, kw_only=True):
    """The session that waits for a code, and for how many seconds it will."""

    session_id: UUID
    expires_in: int


class Codes:
    """
    Sessions that wait for their code. Redis knows a keyed digest of the code, never the code.

    Every method raises `RedisError` or `TimeoutError` where Redis does not answer within five seconds.
    """

    def __init__(self, redis: Redis, secret: str) -> None:
        self._redis = redis
        self._key = hmac.digest(secret.encode(), b"wallet one-time codes", "sha256")
        self._redeem = redis.register_script(_REDEEM)
        self._turns = Semaphore(TURNS_MAX)

    async def open(self, purpose: Purpose, pending: bytes, *, owner: UUID | None = None) -> tuple[AwaitedCode, str]:
        """A new session that keeps `pending` until its code is given, and that code."""
        session_id, code = uuid4(), f"{secrets.randbelow(1_000_000):06d}"
        await self._keep(_key(purpose, session_id, owner), self._digest(session_id, code), pending, CODE_SECONDS)
        return AwaitedCode(session_id=session_id, expires_in=CODE_SECONDS), code

    async def open_decoy(self, purpose: Purpose, pending: bytes) -> AwaitedCode:
        """A session like any other that no code redeems; keeping it costs the same."""
        session_id = uuid4()
        await self._keep(_key(purpose, session_id, None), secrets.token_hex(32), pending, CODE_SECONDS)
        return AwaitedCode(session_id=session_id, expires_in=CODE_SECONDS)

    @asynccontextmanager
    async def redeemed(
        self, purpose: Purpose, session_id: UUID, code: str, *, owner: UUID | None = None
    ) -> AsyncIterator[bytes]:
        """
        Spend the code and hand out what was pending.

        Where the block fails, for want of a database, the code comes back with the life and the tries it had left; so
        it does where what came along with it was not valid. Any other refusal is an answer, and the code stays spent.

        Raises:
            InvalidCode: it does not redeem this session.
        """
        key, digest = _key(purpose, session_id, owner), self._digest(session_id, code)
        async with timeout(STORE_SECONDS), self._turns:
            found = await self._redeem(keys=[key], args=[digest, TRIES_MAX])
        if not found:
            raise InvalidCode()
        pending, tries, expires_at_ms = found
        try:
            yield pending if isinstance(pending, bytes) else pending.encode()
        except BaseException as failure:
            if not isinstance(failure, Refusal) or isinstance(failure, ValidationFailed) or failure.status >= 500:
                await self._put_back(key, digest, pending, int(tries) - 1, int(expires_at_ms))
            raise

    async def _keep(self, key: str, digest: str, pending: bytes, seconds: int) -> None:
        async with timeout(STORE_SECONDS), self._turns, self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping={"digest": digest, "pending": pending, "tries": 0})
            pipe.expire(key, seconds)
            await pipe.execute()

    async def _put_back(self, key: str, digest: str, pending: Any, tries: int, expires_at_ms: int) -> None:
        # The reason for putting it back is what the caller must hear of, not that this failed as well.
        with suppress(RedisError, TimeoutError):
            async with timeout(STORE_SECONDS), self._turns, self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(key, mapping={"digest": digest, "pending": pending, "tries": tries})
                pipe.pexpireat(key, expires_at_ms)
                await pipe.execute()
                return
        log.warning("a one-time code could not be put back: Redis does not answer")

    def _digest(self, session_id: UUID, code: str) -> str:
        return hmac.digest(self._key, session_id.bytes + code.encode(), "sha256").hex()


def _key(purpose: Purpose, session_id: UUID, owner: UUID | None) -> str:
    # The owner is part of the name: for anybody else the session does not exist, and their guesses don't count.
    return f"wallet:code:{purpose}:{owner}:{session_id}" if owner else f"wallet:code:{purpose}:{session_id}"
