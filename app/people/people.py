"""People: how they register, sign in, change their password and describe themselves."""

import logging
from uuid import UUID, uuid4

import msgspec
from saq import Queue

from actors.refusals import Overloaded
from app.auth import refresh
from app.auth.refresh import Device, TokenPair
from app.auth.sessions import Sessions
from app.auth.tokens import REFRESH, TokenInvalid, Tokens, WrongCredentials
from app.limits.requests import RateLimiter, Visitor
from app.people.codes import Codes, Session
from app.people.contacts import claimed_phone_number, email_address, phone_number
from app.people.images import Images
from app.people.passwords import Passwords, WrongPassword, check_new_password, is_outdated
from app.people.profiles import Profiles, UserView
from app.people.registration import Registration, make_user, owners_of
from app.people.resets import Resets, change
from db.engine import UNAVAILABLE
from db.tables import User
from db.transaction import transaction
from tasks.messages.outbox import Messages

log = logging.getLogger(__name__)


class People:
    """Everything under `/users/` that is not a wallet."""

    def __init__(
        self,
        *,
        tokens: Tokens,
        passwords: Passwords,
        codes: Codes,
        limiter: RateLimiter,
        images: Images,
        messages: Messages,
        queue: Queue,
        phone_region: str,
        development: bool,
    ) -> None:
        self._tokens = tokens
        self._passwords = passwords
        self._codes = codes
        self._limiter = limiter
        self.profiles = Profiles(images)
        self.sessions = Sessions(tokens)
        self.resets = Resets(
            tokens=tokens,
            passwords=passwords,
            codes=codes,
            limiter=limiter,
            profiles=self.profiles,
            messages=messages,
            queue=queue,
            phone_region=phone_region,
            development=development,
        )
        self._messages = messages
        self._queue = queue
        self._phone_region = phone_region
        self._development = development

    async def register(self, *, email: str, phone: str, password: str, visitor: Visitor) -> Session:
        """
        Start a registration and send its code.

        Where the email or the phone is taken, answer and work are the same, but the owners get a notice, and no code
        is right: whoever asks does not learn who has an account.
        """
        email = email_address(email, development=self._development)
        phone = phone_number(phone, region=self._phone_region)
        await self._check_new(password, "password", email, phone)
        await self._limiter.code(email, phone, visitor)
        password_hash = await self._passwords.hash(password)
        registration = Registration(user_id=uuid4(), email=email, phone_number=phone, password_hash=password_hash)
        owners = await owners_of(registration)
        pending = msgspec.json.encode(registration)
        if owners:
            session = await self._codes.open_decoy("registration", pending)
        else:
            session, code = await self._codes.open("registration", pending)
        async with transaction():
            for owner in owners:
                await self._messages.owe(
                    event=f"registration_attempt:{session.session_id}:{owner}",
                    template="registration_attempt",
                    user_id=owner,
                )
            if not owners:
                await self._messages.owe(
                    event=f"registration_code:{session.session_id}",
                    template="registration_code",
                    recipient=email,
                    phone_number=phone,
                    code=code,
                )
        await self._messages.hasten(self._queue)
        return session

    async def confirm_registration(self, *, session_id: UUID, code: str, visitor: Visitor) -> UserView:
        """
        Make the person who was pending.

        Raises:
            InvalidCode: the code does not confirm this session.
            UserExists: another registration with this email or phone was confirmed first.
        """
        await self._limiter.verification(visitor)
        async with self._codes.redeemed("registration", session_id, code) as pending:
            registration = msgspec.json.decode(pending, type=Registration)
            async with transaction():
                await make_user(registration)
                await self._messages.owe(
                    event=f"welcome:{registration.user_id}", template="welcome", user_id=registration.user_id
                )
        await self._messages.hasten(self._queue)
        # Known without asking: the person exists now, even if the database is lost before it can say so.
        return UserView(
            id=registration.user_id,
            email=registration.email,
            phone_number=registration.phone_number,
            first_name="",
            last_name="",
            profile_image=None,
            wallets=[],
        )

    async def sign_in(self, *, phone: str, password: str, visitor: Visitor, device: Device) -> TokenPair:
        """
        The first pair of tokens of a new session.

        Raises:
            WrongCredentials: unknown phone, wrong password and somebody who is blocked alike, after the same work.
        """
        phone = claimed_phone_number(phone, region=self._phone_region)
        await self._limiter.sign_in(phone, visitor)
        # Twice where the hash became another one in between: by a change of password, or by a stronger hash of it.
        for _ in range(2):
            found = (
                await User.select(User.id, User.password_hash, User.blocked_at)
                .where(User.phone_number == phone)
                .first()
            )
            matches = await self._passwords.match(found["password_hash"] if found else None, password)
            if not (matches and found) or found["blocked_at"]:
                raise WrongCredentials()
            pair = await refresh.begin(self._tokens, found["id"], password_hash=found["password_hash"], device=device)
            if pair:
                await self._strengthen(found["id"], found["password_hash"], password)
                return pair
        raise WrongCredentials()

    async def refresh(self, token: str, *, visitor: Visitor) -> TokenPair:
        """The next pair; refused as `app.auth.refresh.rotate` says."""
        await self._limiter.refresh(visitor)
        await self._limiter.refresh_of(self._tokens.read(token, REFRESH).user_id, visitor)
        return await refresh.rotate(self._tokens, token)

    async def change_password(self, user_id: UUID, *, password: str, new_password: str, visitor: Visitor) -> Session:
        """
        Start a change of password and send its code.

        Raises:
            WrongPassword: `password` is not the current one.
        """
        await self._limiter.password_check(user_id, visitor)
        user = await User.select(User.email, User.phone_number, User.password_hash).where(User.id == user_id).first()
        if user is None:
            raise TokenInvalid()
        if not await self._passwords.match(user["password_hash"], password):
            raise WrongPassword()
        await self._check_new(new_password, "new_password", user["email"], user["phone_number"])
        await self._limiter.code(user["email"], user["phone_number"], visitor)
        new_hash = await self._passwords.hash(new_password)
        session, code = await self._codes.open("password", new_hash.encode(), owner=user_id)
        async with transaction():
            await self._messages.owe(
                event=f"password_code:{session.session_id}",
                template="password_code",
                user_id=user_id,
                phone_number=user["phone_number"],
                code=code,
            )
        await self._messages.hasten(self._queue)
        return session

    async def confirm_password(self, user_id: UUID, *, session_id: UUID, code: str, visitor: Visitor) -> UserView:
        """
        Make the new password the one that counts, and end every session: each refresh token is revoked.

        The access tokens end with their sessions: at once here, within seconds in other processes: see
        `app/revocations.py`.

        Raises:
            InvalidCode: the code does not confirm this session, or the session is somebody else's.
            TokenInvalid: they were blocked a moment ago.
        """
        await self._limiter.verification(visitor)
        async with self._codes.redeemed("password", session_id, code, owner=user_id) as new_hash, transaction():
            if await refresh.lock_user(user_id) is None:
                raise TokenInvalid()
            answer, ended = await change(
                user_id,
                new_hash.decode(),
                event=f"password_changed:{session_id}",
                messages=self._messages,
                profiles=self.profiles,
            )
        self._tokens.revoke(ended)
        await self._messages.hasten(self._queue)
        return answer

    async def sign_out(self, token: str, *, visitor: Visitor) -> None:
        """End the session that this refresh token is of, if it is of one: whoever asks does not learn which."""
        await self._limiter.refresh(visitor)
        await refresh.sign_out(self._tokens, token)

    async def _check_new(self, password: str, field: str, email: str, phone: str) -> None:
        await self._passwords.checked(
            check_new_password,
            password,
            field=field,
            email=email,
            phone_number=phone,
            region=self._phone_region,
        )

    async def _strengthen(self, user_id: UUID, password_hash: str, password: str) -> None:
        """Hash the password anew where that is done with more work by now; nobody's sign-in fails for it."""
        if not is_outdated(password_hash):
            return
        try:
            stronger = await self._passwords.hash(password)
            await User.raw(
                'UPDATE "user" SET password_hash = {} WHERE id = {} AND password_hash = {}',
                stronger,
                user_id,
                password_hash,
            )
        except (Overloaded, *UNAVAILABLE) as error:
            log.info("a password's hash stays as it was: %s", type(error).__name__)
