"""One SMS out through an HTTP gateway."""

import httpx
import msgspec
from msgspec import Struct

from tasks import outgoing
from tasks.messages.mail import NotSent

SEND_SECONDS = 15.0
ANSWER_BYTES_MAX = 64 * 1024


class SmsGateway(Struct, frozen=True, kw_only=True):
    """The SMS gateway. With one, registration proves the phone number too, by a second code."""

    url: str = ""
    """Each SMS is a POST of {"to", "text", "from"} to this URL. Empty: no SMS, and phone numbers are not proven."""
    token: str = ""
    """Sent as `Authorization: Bearer`."""
    sender: str = ""
    """The value of `from`: a number or name that the gateway knows."""
    success: str = ""
    """The JSON member of its answer and the value that mean success, such as status=ok or messages.0.status=0."""

    def __post_init__(self) -> None:
        member, equals, value = self.success.partition("=")
        if self.success and not (equals and value and all(member.split("."))):
            raise ValueError("SUCCESS must be a member and its value, such as status=ok or messages.0.status=0.")


async def send_sms(gateway: SmsGateway, *, to: str, text: str, reference: str) -> None:
    """
    Hand one SMS to the gateway.

    `reference` goes along as `Idempotency-Key`, the same at every attempt, for gateways that know it.

    Raises:
        NotSent: whatever the gateway answers, another attempt is worth it. No status means a number that can't be
            reached and nothing else: a sender or a text that it does not accept is 400 or 422 as well, and can be
            mended. Only a message without words for an SMS is given up.
    """
    if not gateway.url:
        raise NotSent("this worker has no SMS gateway")
    if not text:
        raise NotSent("this message is not for SMS", permanent=True)
    body = {"to": to, "text": text, "from": gateway.sender}
    headers = {"Idempotency-Key": reference, "Accept-Encoding": "identity"}
    if gateway.token:
        headers["Authorization"] = f"Bearer {gateway.token}"
    try:
        async with outgoing.request("POST", gateway.url, seconds=SEND_SECONDS, json=body, headers=headers) as answer:
            # Of its answer only the status is read, unless we were told what else to look for.
            said = await outgoing.body(answer, ANSWER_BYTES_MAX) if gateway.success and answer.is_success else b""
    except (httpx.HTTPError, httpx.InvalidURL, OSError, outgoing.TooLong) as error:
        raise NotSent(f"the SMS gateway could not be used ({type(error).__name__})") from None
    if not answer.is_success:
        raise NotSent(f"the SMS gateway answered {answer.status_code}")
    if gateway.success and not says(said, gateway.success):
        raise NotSent(f"the SMS gateway answered {answer.status_code} but not {gateway.success}")


def says(body: bytes, wanted: str) -> bool:
    """Whether a JSON document has the member and value of `wanted`, such as `messages.0.status=0`."""
    path, _, value = wanted.partition("=")
    try:
        found = msgspec.json.decode(body)
        for step in path.split("."):
            found = found[int(step)] if isinstance(found, list) else found[step]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, ValueError):
        return False
    return value == (found if isinstance(found, str) else msgspec.json.encode(found).decode())
