"""What people are told, word for word: one function turns a template's name and facts into a letter."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

Template = Literal[
    "welcome",
    "registration_code",
    "registration_attempt",
    "password_code",
    "reset_code",
    "password_changed",
    "wallet_blocked",
]

CODE_LIFETIME_SECONDS = 300
_MINUTES = CODE_LIFETIME_SECONDS // 60
_NEVER_TELL = "Never tell this code to anyone: we will not ask for it."


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


def _welcome(_params: Mapping[str, str]) -> Letter:
    return _letter(
        "Welcome to Wallet",
        "your account is ready. Create a wallet, deposit money and send it to any other wallet by its number.",
        "If this was not you, someone has registered with your address: write to our support.",
    )


def _registration_code(params: Mapping[str, str]) -> Letter:
    return _letter(
        "Confirm your registration",
        f"your code is {params['code']}. It is valid for {_MINUTES} minutes.",
        _NEVER_TELL,
        "If you did not want to register, ignore this message: nothing happens without the code.",
        short=f"Wallet: your registration code is {params['code']}, valid for {_MINUTES} minutes. {_NEVER_TELL}",
    )


def _registration_attempt(_params: Mapping[str, str]) -> Letter:
    return _letter(
        "Someone tried to register with your details",
        "someone tried to register an account with your email address or your phone number. You have an account"
        " already, so no other was made and nothing has changed.",
        "If it was you, simply sign in. If it was not you, there is nothing to do.",
    )


def _password_code(params: Mapping[str, str]) -> Letter:
    return _letter(
        "Confirm your new password",
        f"your code is {params['code']}. It is valid for {_MINUTES} minutes.",
        _NEVER_TELL,
        "If you did not ask for a new password, someone knows your present one: sign in and change it.",
        short=f"Wallet: your code for a new password is {params['code']}, valid for {_MINUTES} minutes. {_NEVER_TELL}",
    )


def _reset_code(params: Mapping[str, str]) -> Letter:
    return _letter(
        "Set a new password",
        f"your code is {params['code']}. It is valid for {_MINUTES} minutes, and with it you choose a new password.",
        _NEVER_TELL,
        "If you did not forget your password, ignore this message: nothing happens without the code.",
        short=f"Wallet: your code for a reset is {params['code']}, valid for {_MINUTES} minutes. {_NEVER_TELL}",
    )


def _password_changed(_params: Mapping[str, str]) -> Letter:
    return _letter(
        "Your password was changed",
        "the password of your account was changed just now.",
        "If this was not you, write to our support at once.",
    )


def _wallet_blocked(params: Mapping[str, str]) -> Letter:
    number = params["wallet_number"]
    return _letter(
        f"Your wallet {number} is blocked",
        f"the monthly fee of {params['amount']} {params['currency']} could not be taken from your wallet {number}:"
        " it holds too little.",
        "It still receives money but sends none. As soon as it has received enough, the fee is taken and the wallet"
        " is unblocked by itself. No further fees are charged until then.",
    )


_WRITERS: Mapping[str, Callable[[Mapping[str, str]], Letter]] = {
    "welcome": _welcome,
    "registration_code": _registration_code,
    "registration_attempt": _registration_attempt,
    "password_code": _password_code,
    "reset_code": _reset_code,
    "password_changed": _password_changed,
    "wallet_blocked": _wallet_blocked,
}
