"""Passwords that are tried first, and are therefore not taken: the most common ones, and one's own address."""

from functools import cache

from actors.refusals import Refusal
from app.contacts import claimed_phone_number
from app.passwords import LENGTH_MIN
from app.problems import FieldError, ValidationFailed


class PasswordRefused(ValidationFailed):
    """It is long enough, and too easy to guess."""


def check_new_password(password: str, *, field: str, email: str, phone_number: str, region: str) -> None:
    """
    Look at a password before it becomes somebody's. The first call takes 50 ms, so it is made in a thread.

    Raises:
        PasswordRefused: it is their own email address or phone number, however written, or a common one.
    """
    if password.strip().casefold() == email.casefold() or _as_phone_number(password, region) == phone_number:
        message = "This is your own email address or phone number, which is tried first. Choose a password of its own."
        raise PasswordRefused(FieldError(field=field, message=message))
    check_common(password, field=field)


def check_common(password: str, *, field: str) -> None:
    """The part that needs to know nobody: refuses a common one, as `check_new_password` does."""
    if password.casefold() in _common():
        message = "This is one of the most common passwords, which are tried first. Choose another: several words do."
        raise PasswordRefused(FieldError(field=field, message=message))


@cache
def _common() -> frozenset[str]:
    """The 30 000 most common passwords of zxcvbn (MIT licence) that are long enough to be refused for anything else."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # here: it is large, and nobody waits for it at the start

    return frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"] if len(word) >= LENGTH_MIN)


def _as_phone_number(text: str, region: str) -> str | None:
    try:
        return claimed_phone_number(text, region=region)
    except Refusal:
        return None
