"""Rate limits that hold across processes: counted in each, and added up in Redis."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from uuid import UUID

from msgspec import Struct
from redis.asyncio import Redis

from actors.refusals import Refusal, Unavailable
from app.limits.tallies import Tallies, Tally
from app.limits.totals import Totals
from app.limits.visitor import Standing, Visitor

QUARTER_SECONDS = 900
HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
# How long counting in Redis may take, and for how long it is left alone when it took longer: sign-ins must not queue
# for it.
COUNT_SECONDS = 1.0


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


class Uncountable(Unavailable):
    """There is no room to count more in this process, and Redis can't be asked."""

    detail = "Too much is to be counted, and Redis can't be asked. Try again in a moment."


# What any limited route may refuse.
LIMITED = (RateLimited, Unavailable)


class _Count(Struct, frozen=True):
    """
    One thing to be counted: for whom, under which policy.

    `claimed` where it is for somebody whom the visitor names, and may not be.
    """

    policy: str
    who: str
    most: int
    window_seconds: int
    claimed: bool = False

    @property
    def key(self) -> str:
        # Not that of earlier versions, which kept a number there: old and new processes may run at the same time.
        return f"{limit_key(self.policy, self.who)}:tallies"


class _Entry(Struct, frozen=True):
    """A request among those that this process has counted: the `place`-th of its window."""

    count: _Count
    tally: Tally
    place: int

    def check(self) -> None:
        """
        Raises:
            RateLimited: with what is known of the others by now, it is beyond the limit.
        """
        count = self.count
        if self.place + self.tally.others > count.most:
            seconds = self.tally.seconds_left
            raise RateLimited(count.policy, most=count.most, window_seconds=count.window_seconds, wait_seconds=seconds)

    def standing(self) -> Standing:
        """What it leaves."""
        count = self.count
        left = count.most - self.place - self.tally.others
        return Standing(
            count.policy,
            most=count.most,
            window_seconds=count.window_seconds,
            left=left,
            seconds=self.tally.seconds_left,
        )


class RateLimiter:
    """
    Counts in fixed windows that begin with the first request: exact for a limit's purpose of slowing guesses, though up
    to twice as many can pass around a window's edge.

    It counts what was asked, before anyone looks whether that person exists: the known and the unknown are limited
    alike. What it refuses is not counted.

    Each process counts by itself first, and refuses at once what is too much by its own count. So of any number of
    requests at the same time no more than a limit allows wait for Redis, which knows what other processes have counted.
    Where Redis is late or gone the own count decides, and with several processes a limit is for each of them. What can
    be counted neither here nor there is refused.
    """

    def __init__(self, redis: Redis, limits: RateLimits, *, per_address: bool) -> None:
        self._limits = limits
        self._per_address = per_address
        self._tallies = Tallies()
        self._totals = Totals(redis, answer_seconds=COUNT_SECONDS)

    async def close(self) -> None:
        """Wait for Redis no longer; the client is closed by who made it."""
        await self._totals.close()

    async def sign_in(self, phone_number: str, visitor: Visitor) -> None:
        """
        Count a sign-in.

        Raises:
            RateLimited: there were too many. So do the others.
            Unavailable: it can't be counted. So do the others.
        """
        most = self._limits
        await self._count(
            visitor,
            _Count("sign-ins-per-phone", phone_number, most.sign_ins_per_phone, QUARTER_SECONDS, claimed=True),
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
                counts.append(_Count(policy, who, in_an_hour, HOUR_SECONDS, claimed=True))
                # Each code may be guessed at five times, and whoever guesses comes back every hour.
                counts.append(_Count(f"{policy}-a-day", who, in_an_hour * 3 // 2, DAY_SECONDS, claimed=True))
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
        await self._count(
            Visitor(address=address),
            _Count("staff-sign-ins-per-name", username, most.staff_sign_ins_per_name, QUARTER_SECONDS, claimed=True),
            _Count("staff-sign-ins-per-address", network(address), most.staff_sign_ins_per_address, QUARTER_SECONDS),
        )

    def _address(self, policy: str, visitor: Visitor, most: int, window_seconds: int) -> _Count:
        return _Count(policy, network(visitor.address), most if self._per_address else 0, window_seconds)

    async def _count(self, visitor: Visitor, *counts: _Count) -> None:
        entries = self._entered(counts)
        if not entries:
            return
        told = await self._totals.learn(each.tally for each in entries)
        try:
            if not (told or all(each.tally.kept for each in entries)):
                raise Uncountable()
            for each in entries:
                each.check()
        except Refusal:
            for each in entries:
                each.tally.own -= 1
            # The others have heard of it, and would refuse somebody else for it.
            self._totals.tell_soon(each.tally for each in entries if each.tally.kept)
            raise
        for each in entries:
            visitor.told(each.standing(), claimed=each.count.claimed)

    def _entered(self, counts: Sequence[_Count]) -> list[_Entry]:
        """Under each of these counts, or, where one has no place left, under none."""
        entries = []
        for count in counts:
            if count.most:
                tally = self._tallies.of(count.key, count.window_seconds)
                entries.append(_Entry(count, tally, tally.own + 1))
        for each in entries:
            each.check()
        for each in entries:
            each.tally.own += 1
        return entries


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
