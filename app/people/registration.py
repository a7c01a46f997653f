"""Someone who is about to become a person: pending first, then a row."""

from uuid import UUID

from msgspec import Struct

from actors.refusals import Refusal
from db.tables import User


class UserExists(Refusal):
    code = "user_exists"
    title = "Someone has registered with this email address or phone number."
    detail = "Another registration was confirmed first. Sign in, or register with other details."


class Registration(Struct, frozen=True, kw_only=True):
    """What waits in Redis for the code. The id is chosen here, so that confirming twice makes one person."""

    user_id: UUID
    email: str
    phone_number: str
    password_hash: str


async def owners_of(registration: Registration) -> list[UUID]:
    """Who has the email or the phone number already: nobody, one person or two."""
    taken = (User.email == registration.email) | (User.phone_number == registration.phone_number)
    return [row["id"] for row in await User.select(User.id).where(taken)]


async def make_user(registration: Registration) -> None:
    """
    Make the person, unless this very registration has done so already, in a commit that was in doubt.

    Raises:
        UserExists: someone else has the email or the phone number.
    """
    await User.raw(
        'INSERT INTO "user" (id, email, phone_number, password_hash) VALUES ({}, {}, {}, {}) ON CONFLICT DO NOTHING',
        registration.user_id,
        registration.email,
        registration.phone_number,
        registration.password_hash,
    )
    if not await User.exists().where(User.id == registration.user_id):
        raise UserExists()
