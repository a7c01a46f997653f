"""Email addresses and phone numbers, in the one form in which they are stored and compared."""

from collections.abc import Collection

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from actors.refusals import FieldError
from app.http.problems import ValidationFailed
from app.people.phone_types import phone_type

_PHONE_TEXT_MAX = 40


def email_address(text: str, *, development: bool) -> str:
    """
    The address in lower case, an international domain in its ASCII form, as SMTP wants it.

    Lower case before the @ as well: no provider in use tells `Ann@` from `ann@`, and people type both. In development
    the reserved `.test` domains pass too (RFC 2606).

    Raises:
        ValidationFailed: it is not an address that mail can be sent to.
    """
    try:
        address = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, strict=True, test_environment=development
        )
    except (EmailNotValidError, ValueError) as error:
        raise ValidationFailed(FieldError(field="email", message=str(error))) from None
    return (address.ascii_email or address.normalized).lower()


def phone_number(text: str, *, region: str, types: Collection[str]) -> str:
    """
    The number as E.164; without a leading + it is read as one of `region` (ISO 3166, two letters).

    Raises:
        ValidationFailed: no such number can be in use, or it is of none of these types (`app/people/phone_types.py`).
    """
    number = _parse(text, region)
    if not phonenumbers.is_valid_number(number):
        raise _not_a_phone_number()
    if phone_type(number) not in types:
        message = "Numbers of this kind can't register, such as premium-rate or shared-cost ones. Give a mobile number."
        raise ValidationFailed(FieldError(field="phone_number", message=message))
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def claimed_phone_number(text: str, *, region: str) -> str:
    """
    The number that someone signs in with: as above, but a well-formed one that nobody can have passes too.

    It is unknown like any other unknown number.

    Raises:
        ValidationFailed: it does not look like a phone number at all.
    """
    return phonenumbers.format_number(_parse(text, region), phonenumbers.PhoneNumberFormat.E164)


def _parse(text: str, region: str) -> phonenumbers.PhoneNumber:
    if len(text) > _PHONE_TEXT_MAX:
        raise _not_a_phone_number()
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise _not_a_phone_number() from None
    # E.164 has no room for an extension: dropping it would make two lines of one.
    if number.extension:
        raise _not_a_phone_number()
    return number


def _not_a_phone_number() -> ValidationFailed:
    message = "Expected a phone number with its country code, such as +77011234567."
    return ValidationFailed(FieldError(field="phone_number", message=message))
