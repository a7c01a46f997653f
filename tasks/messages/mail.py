"""One email out through SMTP."""

import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Literal

import aiosmtplib
from msgspec import Struct

from tasks.messages.templates import Letter

SEND_SECONDS = 15.0

_ENHANCED = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")


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

    `permanent` means that this message will be refused again; otherwise it is worth another attempt.
    """

    def __init__(self, sentence: str, *, permanent: bool = False) -> None:
        super().__init__(sentence)
        self.permanent = permanent


async def send_mail(smtp: Smtp, *, to: str, letter: Letter, reference: str) -> None:
    """
    Hand one email to the server.

    `reference` makes its Message-ID, the same at every attempt, so that a mailbox can drop a repetition.

    Raises:
        NotSent: permanently where the server answered 5xx to this message's sender, recipient or text (RFC 5321,
            4.2.1) or `to` is no address. A failed greeting, TLS or login is our own fault and worth another attempt.
    """
    message = _message(smtp.sender, to, letter, reference)
    try:
        await aiosmtplib.send(
            message,
            sender=parseaddr(smtp.sender)[1],
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
        raise _refused("recipient", error.recipients[0]) from None
    except aiosmtplib.SMTPSenderRefused as error:
        raise _refused("sender", error) from None
    except aiosmtplib.SMTPDataError as error:
        raise _refused("text", error) from None
    except aiosmtplib.SMTPResponseException as error:
        raise NotSent(f"the mail server answered {error.code} before the message ({type(error).__name__})") from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise NotSent(f"the mail server could not be used ({type(error).__name__})") from None


def _message(sender: str, to: str, letter: Letter, reference: str) -> EmailMessage:
    message = EmailMessage()
    try:
        message["To"] = Address(addr_spec=to)
        message["From"] = sender
        message["Subject"] = letter.subject
    except (ValueError, IndexError) as error:
        raise NotSent(f"the address or subject is not valid ({type(error).__name__})", permanent=True) from None
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{reference}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday answers, please
    message.set_content(letter.text)
    return message


def _refused(what: str, answer: aiosmtplib.SMTPResponseException) -> NotSent:
    # Of the server's own words only the code and the enhanced code (RFC 3463): the rest may quote the message.
    enhanced = _ENHANCED.search(answer.message)
    code = f"{answer.code} {enhanced[0]}" if enhanced else str(answer.code)
    return NotSent(f"the mail server refused the {what}: {code}", permanent=answer.code >= 500)
