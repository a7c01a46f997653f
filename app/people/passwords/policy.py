"""What may become a password, of people and of staff: long enough, not their own name, and not what is tried first."""

from functools import cache

from actors.refusals import FieldError, Refusal
from app.http.problems import ValidationFailed
from app.people.contacts import claimed_phone_number
from app.people.fields import PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN

STAFF_LENGTH_MIN = 12

# Staff can move other people's money. By zxcvbn's estimate, from here on a password also holds out where its slow hash
# has leaked. It reads no more characters than that.
_STAFF_GUESSES_MIN = 10**8
_ESTIMATED_MAX = 72


class PasswordRefused(ValidationFailed):
    """A new password that is long enough for its field, but too easy to guess."""


def check_new_password(password: str, *, field: str, email: str, phone_number: str, region: str) -> None:
    """
    Look at a password before it becomes somebody's. The first call takes 50 ms, so it is made in a thread.

    Raises:
        PasswordRefused: it is their own email address or phone number, however written, or a common one.
    """
    if password.strip().casefold() == email.casefold() or _as_phone_number(password, region) == phone_number:
        message = "This is your own email address or phone number, which attackers try first. Choose something else."
        raise PasswordRefused(FieldError(field=field, message=message))
    check_common(password, field=field)


def check_common(password: str, *, field: str) -> None:
    """The part that needs to know nobody: refuses a common one, as `check_new_password` does."""
    if password.casefold() in _common():
        message = "This is one of the most common passwords, which attackers try first. Choose several words."
        raise PasswordRefused(FieldError(field=field, message=message))


@cache
def _common() -> frozenset[str]:
    """The 30 000 most common passwords of zxcvbn (MIT licence) that are long enough to be refused for anything else."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # here: it is large, and nobody waits for it at the start

    return frozenset(word.casefold() for word in FREQUENCY_LISTS["passwords"] if len(word) >= PASSWORD_LENGTH_MIN)


def _as_phone_number(text: str, region: str) -> str | None:
    try:
        return claimed_phone_number(text, region=region)
    except Refusal:
        return None


def staff_weakness(password: str, username: str) -> str | None:
    """
    Why a password is too weak for somebody of the staff, in a sentence; None where it is not.

    Only for what is typed into a terminal: estimating the guesses of a text that was made for it takes seconds.
    """
    if not _is_text(password):
        return "The password must be text in UTF-8."
    if not STAFF_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        return f"The password must have {STAFF_LENGTH_MIN} to {PASSWORD_LENGTH_MAX} characters."
    if username.lower() in password.lower():
        return "The password must not contain the username."
    from zxcvbn import zxcvbn  # here: its lists are large, and nobody waits for them at the start

    if zxcvbn(password[:_ESTIMATED_MAX])["guesses"] < _STAFF_GUESSES_MIN:
        return "The password is too easy to guess. Choose one with more in it than common words and numbers."
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which a terminal in another encoding gives
        return False
    return True
