"""A forgotten password: a code to the person's own address, and a new password for it. Nobody learns who is known."""

from uuid import UUID, uuid4

from saq import Queue

from app.auth import refresh
from app.auth.tokens import Tokens
from app.limits.requests import RateLimiter, Visitor
from app.people.codes import Codes, InvalidCode, Session
from app.people.contacts import claimed_phone_number, email_address
from app.people.passwords import Passwords, check_common, check_new_password
from app.people.profiles import Profiles, UserView
from db.tables import Message, User
from db.transaction import transaction
from tasks.messages.outbox import Messages

# Whose code nobody gets: written and erased in one commit, so that it costs what a real one costs.
_NOBODY = {"email": "nobody@example.com", "phone_number": "+70000000000"}


class Resets:
    """Starts resets and finishes them."""

    def __init__(
        self,
        *,
        tokens: Tokens,
        passwords: Passwords,
        codes: Codes,
        limiter: RateLimiter,
        profiles: Profiles,
        messages: Messages,
        queue: Queue,
        phone_region: str,
        development: bool,
    ) -> None:
        self._tokens = tokens
        self._passwords = passwords
        self._codes = codes
        self._limiter = limiter
        self._profiles = profiles
        self._messages = messages
        self._queue = queue
        self._phone_region = phone_region
        self._development = development

    async def start(self, *, email: str | None = None, phone: str | None = None, visitor: Visitor) -> Session:
        """
        Send a code to whoever has this email address or this phone number; one of the two is given.

        For somebody unknown or blocked, answer and work are the same, but no code goes out, and none redeems it.
        """
        email = email_address(email, development=self._development) if email is not None else None
        phone = claimed_phone_number(phone, region=self._phone_region) if phone is not None else None
        await self._limiter.code(email, phone, visitor)
        whose = User.email == email if email is not None else User.phone_number == phone
        person = await User.select(User.id, User.email, User.phone_number, User.blocked_at).where(whose).first()
        known = person if person and not person["blocked_at"] else None
        pending = (known["id"] if known else uuid4()).bytes
        session, code = await self._codes.open("reset", pending)
        event = f"reset_code:{session.session_id}"
        reached = known or _NOBODY
        async with transaction():
            # To an address and not to a user: a reference to a row would have to be looked up, for known people only.
            await self._messages.owe(
                event=event,
                template="reset_code",
                recipient=reached["email"],
                phone_number=reached["phone_number"],
                code=code,
            )
            await Message.raw("DELETE FROM message WHERE event IN ({}, {}) AND {}", event, f"{event}:sms", not known)
        await self._messages.hasten(self._queue)
        return session

    async def finish(self, *, session_id: UUID, code: str, new_password: str, visitor: Visitor) -> UserView:
        """
        Set the new password, and end every session.

        Raises:
            PasswordRefused: the new password is too easy to guess; the code stays good.
            InvalidCode: the code does not confirm this session.
        """
        await self._limiter.verification(visitor)
        await self._passwords.checked(check_common, new_password, field="new_password")
        async with self._codes.redeemed("reset", session_id, code) as pending:
            user_id = UUID(bytes=pending)
            # What is their own is told only to who holds the code: to others it would tell whose address it is.
            contacts = await User.select(User.email, User.phone_number).where(User.id == user_id).first()
            if contacts is None:
                raise InvalidCode()
            await self._passwords.checked(
                check_new_password, new_password, field="new_password", region=self._phone_region, **contacts
            )
            password_hash = await self._passwords.hash(new_password)
            async with transaction():
                if await refresh.lock_user(user_id) is None:  # blocked a moment ago
                    raise InvalidCode()
                answer, ended = await change(
                    user_id,
                    password_hash,
                    event=f"password_changed:{session_id}",
                    messages=self._messages,
                    profiles=self._profiles,
                )
        self._tokens.revoke(ended)
        await self._messages.hasten(self._queue)
        return answer


async def change(
    user_id: UUID, password_hash: str, *, event: str, messages: Messages, profiles: Profiles
) -> tuple[UserView, list[UUID]]:
    """
    Make this password the one that counts, end every session and owe a message that says so.

    In the current transaction, which holds the user's row: the person, and the sessions that have ended.
    """
    await User.raw('UPDATE "user" SET password_hash = {}, updated_at = now() WHERE id = {}', password_hash, user_id)
    ended = await refresh.revoke_all(user_id)
    await messages.owe(event=event, template="password_changed", user_id=user_id)
    return await profiles.view(user_id), ended
