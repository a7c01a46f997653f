"""Rate limits that hold across processes, counted in Redis."""

import logging
from asyncio import timeout
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from time import monotonic
from uuid import UUID

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.refusals import Refusal
from app.limits.visitor import Standing, Visitor

log = logging.getLogger(__name__)

QUARTER_SECONDS = 900
HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
# How long counting in Redis may take, and for how long it is left alone when it took longer: sign-ins must not queue
# for it.
COUNT_SECONDS = 1.0
_QUIET_SECONDS = 60.0


class RateLimits(Struct, frozen=True, kw_only=True):
    """Requests allowed per time window. 0 disables a limit. In development, only staff are limited by address."""

    payments_per_user: int = 600_000  # per minute; each transfer of a bulk counts
    unpaid_numbers_per_user: int = 60  # per day; different wallet numbers that could not be paid
    sign_ins_per_phone: int = 30  # per 15 minutes
    sign_ins_per_address: int = 100  # per 15 minutes
    refreshes_per_address: int = 300  # per 15 minutes
    refreshes_per_user: int = 100  # per 15 minutes
    codes_per_phone: int = 20  # per hour; 1.5 times as many per day
    codes_per_email: int = 20  # per hour; 1.5 times as many per day
    codes_per_address: int = 60  # per hour
    verifications_per_address: int = 60  # per 15 minutes
    password_checks_per_user: int = 20  # per hour
    staff_sign_ins_per_name: int = 20  # per 15 minutes
    staff_sign_ins_per_address: int = 60  # per 15 minutes


class Seldom:
    """A warning about a state that lasts, said once a minute at most: the log does not need it with every request."""

    def __init__(self, log: logging.Logger, message: str) -> None:
        self._log = log
        self._message = message
        self._quiet_until = 0.0

    def warn(self, *arguments: object) -> None:
        """Say it, unless it was said less than a minute ago."""
        if monotonic() >= self._quiet_until:
            self._quiet_until = monotonic() + _QUIET_SECONDS
            self._log.warning(self._message, *arguments)


class RateLimited(Refusal):
    """Too many requests of one kind."""

    status = 429
    code = "rate_limited"
    title = "Too many requests."

    def __init__(
        self, policy: str, *, most: int, window_seconds: int, wait_seconds: int, detail: str | None = None
    ) -> None:
        standing = Standing(policy, most=most, window_seconds=window_seconds, left=0, seconds=wait_seconds)
        self.headers: Mapping[str, str] = {"Retry-After": str(wait_seconds), **standing.headers}
        minutes = window_seconds // 60
        window = "a minute" if minutes <= 1 else "a day" if window_seconds == DAY_SECONDS else f"{minutes} minutes"
        super().__init__(detail or f"At most {most} in {window}. Try again in {wait_seconds} seconds.")


class _Count(Struct, frozen=True):
    """One thing to be counted: for whom, under which policy."""

    policy: str
    who: str
    most: int
    window_seconds: int

    @property
    def key(self) -> str:
        return limit_key(self.policy, self.who)


class RateLimiter:
    """
    Counts in fixed windows that begin with the first request: one INCR each, exact for a limit's purpose of slowing
    guesses, though up to twice as many can pass around a window's edge.

    It counts what was asked, before anyone looks whether that person exists: the known and the unknown are limited
    alike. Without Redis nothing is limited: being guessed at is the lesser harm than nobody getting in.
    """

    def __init__(self, redis: Redis, limits: RateLimits, *, per_address: bool) -> None:
        self._redis = redis
        self._limits = limits
        self._per_address = per_address
        self._asks_again_at = 0.0
        self._uncounted = Seldom(log, "rate limits do not apply: Redis does not answer (%s)")

    async def sign_in(self, phone_number: str, visitor: Visitor) -> None:
        """Count a sign-in. Raises `RateLimited`, as do the others."""
        most = self._limits
        await self._count(
            visitor,
            _Count("sign-ins-per-phone", phone_number, most.sign_ins_per_phone, QUARTER_SECONDS),
            self._address("sign-ins-per-address", visitor, most.sign_ins_per_address, QUARTER_SECONDS),
        )

    async def refresh(self, visitor: Visitor) -> None:
        """Count an exchange of whatever was sent as a refresh token."""
        most = self._limits.refreshes_per_address
        await self._count(visitor, self._address("refreshes-per-address", visitor, most, QUARTER_SECONDS))

    async def refresh_of(self, user_id: UUID, visitor: Visitor) -> None:
        """Count an exchange of a refresh token that is one of ours: each makes a row, from however many addresses."""
        most = self._limits.refreshes_per_user
        await self._count(visitor, _Count("refreshes-per-user", str(user_id), most, QUARTER_SECONDS))

    async def code(self, email: str | None, phone_number: str | None, visitor: Visitor) -> None:
        """Count a code that is about to be sent, or a notice in its place; by what was given of email and phone."""
        most = self._limits
        counts: list[_Count] = []
        for policy, who, in_an_hour in (
            ("codes-per-email", email, most.codes_per_email),
            ("codes-per-phone", phone_number, most.codes_per_phone),
        ):
            if who:
                counts.append(_Count(policy, who, in_an_hour, HOUR_SECONDS))
                # Each code may be guessed at five times, and whoever guesses comes back every hour.
                counts.append(_Count(f"{policy}-a-day", who, in_an_hour * 3 // 2, DAY_SECONDS))
        counts.append(self._address("codes-per-address", visitor, most.codes_per_address, HOUR_SECONDS))
        await self._count(visitor, *counts)

    async def verification(self, visitor: Visitor) -> None:
        """Count a try at a code. Each session has five tries besides: see `app.people.codes`."""
        most = self._limits.verifications_per_address
        await self._count(visitor, self._address("verifications-per-address", visitor, most, QUARTER_SECONDS))

    async def password_check(self, user_id: UUID, visitor: Visitor) -> None:
        """Count a try at the current password by someone who is signed in."""
        most = self._limits.password_checks_per_user
        await self._count(visitor, _Count("password-checks-per-user", str(user_id), most, HOUR_SECONDS))

    async def staff_sign_in(self, username: str, address: str) -> None:
        """Count a sign-in to the admin: by address in development too, since nobody signs in there by the hundred."""
        most = self._limits
        names = _Count("staff-sign-ins-per-name", username, most.staff_sign_ins_per_name, QUARTER_SECONDS)
        places = _Count(
            "staff-sign-ins-per-address", network(address), most.staff_sign_ins_per_address, QUARTER_SECONDS
        )
        await self._count(Visitor(address=address), names, places)

    def _address(self, policy: str, visitor: Visitor, most: int, window_seconds: int) -> _Count:
        return _Count(policy, network(visitor.address), most if self._per_address else 0, window_seconds)

    async def _count(self, visitor: Visitor, *counts: _Count) -> None:
        active = [count for count in counts if count.most]
        if not active or monotonic() < self._asks_again_at:
            return
        try:
            async with timeout(COUNT_SECONDS), self._redis.pipeline(transaction=False) as pipe:
                for count in active:
                    pipe.incr(count.key)
                    pipe.expire(count.key, count.window_seconds, nx=True)
                    pipe.ttl(count.key)
                replies = await pipe.execute()
        except (RedisError, OSError) as error:
            self._asks_again_at = monotonic() + COUNT_SECONDS
            self._uncounted.warn(type(error).__name__)
            return
        for count, used, wait in zip(active, replies[::3], replies[2::3], strict=True):
            policy, most, window, seconds = count.policy, count.most, count.window_seconds, max(wait, 1)
            if used > most:
                raise RateLimited(policy, most=most, window_seconds=window, wait_seconds=seconds)
            visitor.told(Standing(policy, most=most, window_seconds=window, left=most - used, seconds=seconds))


def limit_key(policy: str, who: str) -> str:
    """Where Redis counts. A digest: keys stay short whatever was sent, and nobody's address stands in them."""
    return f"wallet:limit:{policy}:{sha256(who.encode()).hexdigest()[:32]}"


def network(address: str) -> str:
    """Who an address belongs to: itself, but of IPv6 the /64 that one customer is usually given."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and not ip.ipv4_mapped:
        return str(IPv6Address(int(ip) >> 64 << 64))
    return str(getattr(ip, "ipv4_mapped", None) or ip)
