"""What people are told, word for word: one function turns a template's name and facts into a letter."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

Template = Literal[
    "welcome",
    "registration_code",
    "registration_attempt",
    "password_code",
    "password_attempt",
    "reset_code",
    "reset_attempt",
    "password_changed",
    "wallet_blocked",
]

# Those that somebody waits for, for as long as the code in them lives.
CODE_TEMPLATES: tuple[Template, ...] = ("registration_code", "password_code", "reset_code")
CODE_LIFETIME_SECONDS = 300
_MINUTES = CODE_LIFETIME_SECONDS // 60
_NEVER_TELL = "Never share this code: we will never ask you for it."


class Letter(Struct, frozen=True, kw_only=True):
    """A message ready to be sent: `text` by email under `subject`, or `short` alone as an SMS."""

    subject: str
    text: str
    short: str


class UnknownTemplate(LookupError):
    """This version of the worker can't write the message: a newer one owed it, or a fact is missing."""


def write(template: str, params: Mapping[str, str], code: str | None = None) -> Letter:
    """
    The letter of a template. A code stands in the text only, never in the subject, which ends up in logs.

    Raises:
        UnknownTemplate: no such template, or `params` or `code` lack what it tells.
    """
    try:
        return _WRITERS[template]({**params, "code": code} if code else params)
    except KeyError as missing:
        raise UnknownTemplate(f"can't write {template!r}: {missing.args[0]!r} is missing") from None


def _letter(subject: str, *paragraphs: str, short: str = "") -> Letter:
    return Letter(subject=subject, text="\n\n".join(("Hello,", *paragraphs, "Wallet")) + "\n", short=short)


def _notice(short: str) -> Letter:
    """What only SMS tell."""
    return Letter(subject="Wallet", text=f"{short}\n", short=short)


def _welcome(_params: Mapping[str, str]) -> Letter:
    return _letter(
        "Welcome to Wallet",
        "Your account is ready. Open a wallet, deposit money and send it to any other wallet by its number.",
        "If this wasn't you, someone registered with your email address: please contact support.",
    )


def _registration_code(params: Mapping[str, str]) -> Letter:
    # By email and by SMS: each has a code of its own, and says which of the two it is.
    second = ["Another code comes by SMS to your phone. You need both."] if "second_code" in params else []
    return _letter(
        "Confirm your registration",
        f"Thank you for registering: the code for your email address is {params['code']}. It is valid for {_MINUTES}"
        " minutes.",
        *second,
        _NEVER_TELL,
        "If you didn't try to register, ignore this email: nothing happens without the code.",
        short=f"Wallet: the code for your phone is {params['code']}, valid for {_MINUTES} minutes. {_NEVER_TELL}",
    )


def _registration_attempt(_params: Mapping[str, str]) -> Letter:
    return _letter(
        "Someone tried to register with your details",
        "Someone tried to register with your email address or phone number. You already have an account, so no new one"
        " was created and nothing has changed.",
        "If it was you, just sign in. If not, you don't need to do anything.",
    )


def _password_code(params: Mapping[str, str]) -> Letter:
    return _letter(
        "Confirm your new password",
        f"You asked for a new password: your code is {params['code']}. It is valid for {_MINUTES} minutes.",
        _NEVER_TELL,
        "If you didn't ask for it, someone knows your current password: sign in and change it now.",
    )


def _password_attempt(_params: Mapping[str, str]) -> Letter:
    return _notice(
        "Wallet: someone asked to change your password. We sent a code to your email address. If it wasn't you,"
        " they know your password: change it now."
    )


def _reset_code(params: Mapping[str, str]) -> Letter:
    return _letter(
        "Set a new password",
        f"You asked to reset your password: your code is {params['code']}. Use it within {_MINUTES} minutes to choose a"
        " new password.",
        _NEVER_TELL,
        "If you didn't ask for this, ignore this email: nothing happens without the code.",
    )


def _reset_attempt(_params: Mapping[str, str]) -> Letter:
    return _notice(
        "Wallet: someone asked to reset your password. We sent a code to your email address. If it wasn't you, you"
        " don't need to do anything."
    )


def _password_changed(_params: Mapping[str, str]) -> Letter:
    return _letter(
        "Your password was changed",
        "The password of your account has just been changed.",
        "If this wasn't you, contact support at once.",
    )


def _wallet_blocked(params: Mapping[str, str]) -> Letter:
    number = params["wallet_number"]
    return _letter(
        f"Your wallet {number} is blocked",
        f"We could not take the monthly fee of {params['amount']} {params['currency']} from your wallet {number}: its"
        " balance is too low.",
        "It can still receive money, but can't send any. Once the balance covers the fee, we take it and unblock the"
        " wallet automatically. No further fees add up until then.",
    )


_WRITERS: Mapping[str, Callable[[Mapping[str, str]], Letter]] = {
    "welcome": _welcome,
    "registration_code": _registration_code,
    "registration_attempt": _registration_attempt,
    "password_code": _password_code,
    "password_attempt": _password_attempt,
    "reset_code": _reset_code,
    "reset_attempt": _reset_attempt,
    "password_changed": _password_changed,
    "wallet_blocked": _wallet_blocked,
}
