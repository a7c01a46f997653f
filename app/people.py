"""People: how they register, sign in, change their password and describe themselves."""

from uuid import UUID, uuid4

import msgspec
from saq import Queue

from app import refresh
from app.auth import REFRESH, TokenInvalid, Tokens, WrongCredentials
from app.codes import Codes, Session
from app.contacts import claimed_phone_number, email_address, phone_number
from app.images import Images
from app.limits import RateLimiter, Visitor
from app.passwords import Passwords, WrongPassword
from app.profiles import Profiles, UserView
from app.refresh import TokenPair
from app.registration import Registration, make_user, owners_of
from db.tables import User
from db.transaction import transaction
from tasks.messages import Messages


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
        return UserView(id=registration.user_id, email=registration.email, phone_number=registration.phone_number)

    async def sign_in(self, *, phone: str, password: str, visitor: Visitor) -> TokenPair:
        """
        The first pair of tokens.

        Raises:
            WrongCredentials: unknown phone and wrong password alike, after the same work.
        """
        phone = claimed_phone_number(phone, region=self._phone_region)
        await self._limiter.sign_in(phone, visitor)
        found = await User.select(User.id, User.password_hash).where(User.phone_number == phone).first()
        matches = await self._passwords.match(found["password_hash"] if found else None, password)
        if not (matches and found):
            raise WrongCredentials()
        pair = await refresh.begin(self._tokens, found["id"], password_hash=found["password_hash"])
        if pair is None:  # the password was changed a moment ago
            raise WrongCredentials()
        return pair

    async def refresh(self, token: str, *, visitor: Visitor) -> TokenPair:
        """The next pair; refused as `app.refresh.rotate` says."""
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
        Make the new password the one that counts, and sign out everyone: each refresh token is revoked.

        Access tokens can't be called back; they end within their quarter of an hour.

        Raises:
            InvalidCode: the code does not confirm this session, or the session is somebody else's.
        """
        await self._limiter.verification(visitor)
        async with self._codes.redeemed("password", session_id, code, owner=user_id) as new_hash, transaction():
            await User.raw(
                'UPDATE "user" SET password_hash = {}, updated_at = now() WHERE id = {}', new_hash.decode(), user_id
            )
            await refresh.revoke_all(user_id)
            await self._messages.owe(
                event=f"password_changed:{session_id}", template="password_changed", user_id=user_id
            )
            answer = await self.profiles.view(user_id)
        await self._messages.hasten(self._queue)
        return answer
