"""One SMS out through an HTTP gateway."""

import httpx
from msgspec import Struct

from tasks import outgoing
from tasks.messages.mail import NotSent

SEND_SECONDS = 15.0


class SmsGateway(Struct, frozen=True, kw_only=True):
    """The SMS gateway. With one, registration proves the phone number too, by a second code."""

    url: str = ""
    """Each SMS is a POST of {"to", "text", "from"} to this URL. Empty: no SMS, and phone numbers are not proven."""
    token: str = ""
    """Sent as `Authorization: Bearer`."""
    sender: str = ""
    """The value of `from`: a number or name that the gateway knows."""


async def send_sms(gateway: SmsGateway, *, to: str, text: str, reference: str) -> None:
    """
    Hand one SMS to the gateway.

    `reference` goes along as `Idempotency-Key`, the same at every attempt, for gateways that know it.

    Raises:
        NotSent: permanently where the gateway says that the request itself is wrong (400, 404, 410, 413, 422).
            Refused credentials, limits, its own faults and silence are worth another attempt.
    """
    if not gateway.url:
        raise NotSent("no SMS gateway is configured", permanent=True)
    body = {"to": to, "text": text, "from": gateway.sender}
    headers = {"Idempotency-Key": reference}
    if gateway.token:
        headers["Authorization"] = f"Bearer {gateway.token}"
    try:
        async with outgoing.request("POST", gateway.url, seconds=SEND_SECONDS, json=body, headers=headers) as answer:
            pass  # of its answer only the status is read
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotSent(f"the SMS gateway could not be used ({type(error).__name__})") from None
    if not answer.is_success:
        wrong = answer.status_code in {400, 404, 410, 413, 422}
        raise NotSent(f"the SMS gateway answered {answer.status_code}", permanent=wrong)
