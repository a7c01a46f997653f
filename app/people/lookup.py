"""Whom staff mean, on the command line or in a form."""

from uuid import UUID

from app.http.problems import ValidationFailed
from app.people.contacts import claimed_phone_number, email_address
from db.errors import ReadableError
from db.tables import User


class PersonError(ReadableError):
    """There is no such person, or what is asked of them can't be done."""


async def find_person(who: str, *, phone_region: str) -> UUID:
    """
    The id of the person with this id, email address or phone number.

    Raises:
        PersonError: there is none.
    """
    try:
        if "@" in who:
            condition = User.email == email_address(who, development=True)
        elif user_id := _uuid(who):
            condition = User.id == user_id
        else:
            condition = User.phone_number == claimed_phone_number(who, region=phone_region)
    except ValidationFailed:
        raise PersonError("Give an id, an email address or a phone number with its country code.") from None
    found = await User.select(User.id).where(condition).first()
    if found is None:
        raise PersonError(f"There is nobody with this {'email address' if '@' in who else 'id or phone number'}.")
    user_id_found: UUID = found["id"]
    return user_id_found


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
