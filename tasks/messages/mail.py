"""One email out through SMTP."""

import logging
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from ssl import SSLCertVerificationError
from typing import Literal

import aiosmtplib
from msgspec import Struct

from tasks.messages.smtp_answers import enhanced_code, is_about_recipient
from tasks.messages.templates import Letter

SEND_SECONDS = 15.0

log = logging.getLogger(__name__)
_warned: set[tuple[str, str]] = set()  # of these servers and faults, in this process


class Smtp(Struct, frozen=True, kw_only=True):
    """The mail server for production. Development catches mail instead."""

    host: str = ""
    port: int = 587
    username: str = ""
    """If empty, there is no login."""
    password: str = ""
    tls: Literal["none", "starttls", "implicit"] = "starttls"
    """Encryption: starttls is usual on port 587, implicit on port 465."""
    sender: str = "Wallet <no-reply@wallet.example>"
    """The sender of messages."""


class NotSent(Exception):
    """
    The message is not out. The sentence is short and safe to store: it never quotes the server or the message.

    `permanent` means that the recipient can't be reached, whoever asks and whenever. All else is worth another attempt.
    """

    def __init__(self, sentence: str, *, permanent: bool = False) -> None:
        super().__init__(sentence)
        self.permanent = permanent


async def send_mail(smtp: Smtp, *, to: str, letter: Letter, reference: str) -> None:
    """
    Hand one email to the server.

    `reference` makes its Message-ID, the same at every attempt, so that a mailbox can drop a repetition.

    Raises:
        NotSent: permanently only where the server said of the recipient that it can't get mail, or `to` is no address.
            Whatever else it refuses is about us: our login, our sender, our quota, our right to relay. That can be
            mended, and the message is worth another attempt, whatever digit the answer begins with.
    """
    message = _message(smtp.sender, to, letter, reference)
    sender = parseaddr(smtp.sender)[1]
    try:
        await aiosmtplib.send(
            message,
            sender=sender,
            recipients=[to],
            hostname=smtp.host,
            port=smtp.port,
            username=smtp.username or None,
            password=smtp.password or None,
            use_tls=smtp.tls == "implicit",
            start_tls=smtp.tls == "starttls",
            timeout=SEND_SECONDS,
        )
    except aiosmtplib.SMTPRecipientsRefused as error:
        refusal = error.recipients[0]
        raise _refused("recipient", refusal, permanent=is_about_recipient(refusal, sender=sender)) from None
    except aiosmtplib.SMTPSenderRefused as error:
        raise _refused("sender", error) from None
    except aiosmtplib.SMTPDataError as error:
        # Some look for the mailbox when they have the text. Without an enhanced code it is the text that they refuse.
        permanent = bool(enhanced_code(error)) and is_about_recipient(error, sender=sender)
        raise _refused("text", error, permanent=permanent) from None
    except aiosmtplib.SMTPAuthenticationError as error:
        raise _refused("login", error) from None
    except aiosmtplib.SMTPResponseException as error:
        raise NotSent(f"the mail server answered {error.code} before the message ({type(error).__name__})") from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        if why := _untrusted(smtp, error):
            raise NotSent(f"the mail server could not be used: its certificate is not accepted ({why})") from None
        raise NotSent(f"the mail server could not be used ({type(error).__name__})") from None


async def look_at_certificate(smtp: Smtp) -> None:
    """Greet the server without a message, to warn at start of a certificate that no message will go out with."""
    if not smtp.host or smtp.tls == "none":
        return
    implicit = smtp.tls == "implicit"
    server = aiosmtplib.SMTP(
        hostname=smtp.host, port=smtp.port, use_tls=implicit, start_tls=not implicit, timeout=SEND_SECONDS
    )
    try:
        async with server:
            pass
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        _untrusted(smtp, error)


def _untrusted(smtp: Smtp, error: BaseException | None) -> str | None:
    """Why the server's certificate is not accepted, if that is what has gone wrong; each reason is logged once."""
    while error is not None and not isinstance(error, SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    why: str = error.verify_message.rstrip(".")
    if (smtp.host, why) not in _warned:
        _warned.add((smtp.host, why))
        log.warning(
            "No mail goes out: the certificate of the mail server %s is not accepted (%s). Set WALLET_SMTP_HOST to a"
            " name that is in it, or have this machine trust its issuer.",
            smtp.host,
            why,
        )
    return why


def _message(sender: str, to: str, letter: Letter, reference: str) -> EmailMessage:
    message = EmailMessage()
    try:
        message["To"] = Address(addr_spec=to)
    except (ValueError, IndexError) as error:
        raise NotSent(f"the address is not valid ({type(error).__name__})", permanent=True) from None
    try:
        message["From"] = sender
        message["Subject"] = letter.subject
    except (ValueError, IndexError) as error:
        raise NotSent(f"the sender or subject is not valid ({type(error).__name__})") from None
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{reference}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday answers, please
    message.set_content(letter.text)
    return message


def _refused(what: str, answer: aiosmtplib.SMTPResponseException, *, permanent: bool = False) -> NotSent:
    # Of the server's own words only the code and the enhanced code: the rest may quote the message.
    code = f"{answer.code} {enhanced_code(answer) or ''}".rstrip()
    return NotSent(f"the mail server refused the {what}: {code}", permanent=permanent)
