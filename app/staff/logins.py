"""The logins of staff: Piccolo's own user and session tables, made by `wallet staff`, checked off the event loop."""

import hmac
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from asyncpg.exceptions import UniqueViolationError
from msgspec import Struct
from piccolo.apps.user.tables import BaseUser
from piccolo_api.session_auth.tables import SessionsBase
from starlette.exceptions import HTTPException

from actors.refusals import Refusal
from app.http.plain_text import fault_of, shows
from app.http.problems import ValidationFailed
from app.limits.requests import RateLimiter
from app.limits.threads import Threads
from app.people.contacts import email_address
from app.people.fields import PASSWORD_LENGTH_MAX
from app.people.passwords.policy import STAFF_LENGTH_MIN, staff_weakness
from db.errors import ReadableError


class Guard(Struct, frozen=True, kw_only=True):
    """What a sign-in needs of its application: who counts the tries, where it hashes, what nobody's hash is."""

    limiter: RateLimiter
    threads: Threads
    nobodys_password: str


# Set per request by whoever knows them. Neither is part of the table: Piccolo keeps each table for ever.
client_address: ContextVar[str] = ContextVar("client_address", default="")
on_guard: ContextVar[Guard] = ContextVar("on_guard")


class StaffError(ReadableError):
    """A login can't be made or changed."""


class StaffLogin(BaseUser, tablename="piccolo_user"):
    """`admin` may look, `superuser` may act as well. An inactive login gets nowhere, at once."""

    _min_password_length = STAFF_LENGTH_MIN
    _max_password_length = PASSWORD_LENGTH_MAX

    @classmethod
    async def login(cls, username: str, password: str) -> int | None:
        """
        The login's id, or None where name or password is wrong; as slow for a name that is not there.

        Raises:
            HTTPException: too many tries under this name or from this address, or by everybody; or they can't be
                counted.
        """
        username, password = str(username), str(password)
        guard = on_guard.get()
        try:
            await guard.limiter.staff_sign_in(username, client_address.get())
            return await cls._matching(username, password, guard)
        except Refusal as refusal:
            headers = dict(refusal.headers)
            if refusal.retry_after_seconds is not None:
                headers.setdefault("Retry-After", str(refusal.retry_after_seconds))
            raise HTTPException(refusal.status, f"{refusal.title} {refusal}", headers) from None

    @classmethod
    async def _matching(cls, username: str, password: str, guard: Guard) -> int | None:
        if len(password) > cls._max_password_length:
            return None
        name = username[: cls.username.length]
        row = await cls.select(cls.id, cls.password).where(cls.username == name).first()
        stored = row["password"] if row else guard.nobodys_password
        _, iterations, salt, _ = cls.split_stored_password(stored)
        hashed = await guard.threads.run(cls.hash_password, password, salt, int(iterations))
        if not row or name != username or not hmac.compare_digest(hashed.encode(), stored.encode()):
            return None
        # Piccolo's column has no time zone; what it holds is UTC, as everything else.
        await cls.update({cls.last_login: datetime.now(UTC).replace(tzinfo=None)}).where(cls.id == row["id"])
        login_id: int = row["id"]
        return login_id


def _check_password(password: str, username: str) -> None:
    if weakness := staff_weakness(password, username):
        raise StaffError(weakness)


async def create_login(*, username: str, email: str, password: str, operator: bool) -> int:
    """
    A new login, and its id.

    Raises:
        StaffError: the name or the email is taken, or something is not good enough.
    """
    fault = fault_of(username)
    if fault or not 3 <= len(username) <= 100 or not shows(username) or username != username.strip():
        raise StaffError(f"The username must have 3 to 100 printable characters. {fault or ''}".rstrip())
    try:
        email = email_address(email, development=True)
    except ValidationFailed as error:
        raise StaffError(f"The email address is not one. {error.errors[0].message}") from None
    _check_password(password, username)
    try:
        login = await StaffLogin.create_user(
            username=username, password=password, email=email, active=True, admin=True, superuser=operator
        )
    except UniqueViolationError:
        raise StaffError(f"There is a login named {username}, or with this email, already.") from None
    login_id: int = login.id
    return login_id


async def change_login(username: str, *, password: str | None = None, active: bool | None = None) -> None:
    """
    Set a new password, or let nobody in under this name any more (or again). Whoever is signed in is signed out.

    Raises:
        StaffError: there is no such login, or the password is not good enough.
    """
    login = await StaffLogin.objects().where(StaffLogin.username == username).first()
    if login is None:
        raise StaffError(f"There is no login named {username}.")
    if password is not None:
        _check_password(password, username)
        await StaffLogin.update_password(login.id, password)
    if active is not None:
        await StaffLogin.update({StaffLogin.active: active}).where(StaffLogin.id == login.id)
    await SessionsBase.delete().where(SessionsBase.user_id == login.id)


async def logins() -> list[dict[str, Any]]:
    """Everybody's name, email, role, and when they last signed in."""
    rows: list[dict[str, Any]] = await StaffLogin.select(
        StaffLogin.username, StaffLogin.email, StaffLogin.active, StaffLogin.superuser, StaffLogin.last_login
    ).order_by(StaffLogin.username)
    return rows
