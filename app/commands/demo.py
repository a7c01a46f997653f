"""`wallet demo`: two new people who open wallets and send each other money, through the public API alone."""

import re
import secrets
import time
from decimal import Decimal
from typing import Any

import click
import httpx
from msgspec import Struct

from db.errors import ReadableError

MAIL_SECONDS = 20
KAZAKH_MOBILE_PREFIXES = ("700", "701", "702", "705", "707", "747", "771", "775", "776", "777", "778")


class DemoFailed(ReadableError):
    """The demo can't go on."""


class Person(Struct, frozen=True):
    """Somebody who has signed in."""

    name: str
    email: str
    access: str


def demo(url: str) -> None:
    """
    Register two people, pay in, send KZT to a EUR wallet twice under one key, and show the statement.

    Raises:
        DemoFailed: the server is not there, is no development server, or answers otherwise than it should.
    """
    try:
        with httpx.Client(base_url=url, timeout=30, follow_redirects=True) as client:
            _act(client)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise DemoFailed(f"{url} is not a URL such as http://127.0.0.1:8000.") from None
    except httpx.TransportError:
        raise DemoFailed(f"No wallet answers at {url}: start one with `make serve`, or name it with --url.") from None


def _act(client: httpx.Client) -> None:
    _say(f"Two people join {client.base_url}")
    aigerim, bruno = (_join(client, name) for name in ("Aigerim", "Bruno"))

    _say("They open wallets")
    tenge = _open_wallet(client, aigerim, "KZT")
    euros = _open_wallet(client, bruno, "EUR")

    _say("Aigerim deposits money")
    deposit = _ask(client, aigerim, "POST", f"/users/wallets/{tenge['id']}/deposit/", {"amount": "50000.00"})
    _tell(f"{deposit['amount']} KZT came in, the balance is {deposit['balance_after']} KZT")

    _say("She sends tenge to Bruno's euro wallet, by its number")
    body = {"wallet_number": euros["wallet_number"], "amount": "12500.00"}
    key = {"Idempotency-Key": f"demo-{secrets.token_hex(8)}"}
    route = f"/users/wallets/{tenge['id']}/transfer/"
    first = _ask(client, aigerim, "POST", route, body, headers=key)
    rate = Decimal(first["exchange_rate"]).normalize()
    _tell(f"{first['amount']} KZT went out and {first['received_amount']} EUR came in, at {rate:f}")

    _say("The connection drops, so she sends the same request again")
    replayed = _answer(client, aigerim, "POST", route, body, headers=key)
    _check(replayed.json() == first, "the same request under the same key was answered differently")
    _check(replayed.headers.get("Idempotent-Replayed") == "true", "the replayed answer is not marked as one")
    _tell("Same answer, Idempotent-Replayed: true; no money has moved")

    _say("Their balances")
    for person, wallet, expected in (
        (aigerim, tenge, first["balance_after"]),
        (bruno, euros, first["received_amount"]),
    ):
        now = _ask(client, person, "GET", f"/users/wallets/{wallet['id']}/")
        _tell(f"{person.name:<8} {now['amount']:>12} {now['amount_currency']}")
        _check(now["amount"] == expected, f"{person.name} holds {now['amount']} where {expected} was expected")

    _say("Aigerim's statement")
    statement = _ask(client, aigerim, "GET", f"/users/wallets/{tenge['id']}/transactions/")
    for line in statement:
        sign = "-" if line["sender"] and line["sender"]["wallet_number"] == tenge["wallet_number"] else "+"
        amount, at = f"{sign}{line['amount']}", line["created_at"][:19].replace("T", " ")
        _tell(f"{at}  {line['operation_type']:<9}{amount:>13} {line['amount_currency']}  {line['balance_after']:>12}")
    kinds = [line["operation_type"] for line in statement]
    _check(kinds == ["TRANSFER", "DEPOSIT"], f"the statement should hold a transfer and a deposit, not {kinds}")
    click.echo("\nEverything checks out.")


def _join(client: httpx.Client, name: str) -> Person:
    """Register with a code read in the development mailbox, and sign in."""
    email = f"{name.lower()}.{secrets.token_hex(6)}@example.com"
    phone_number = f"+7{secrets.choice(KAZAKH_MOBILE_PREFIXES)}{secrets.randbelow(10**7):07d}"
    password = secrets.token_urlsafe(18)
    started = _ask(
        client,
        None,
        "POST",
        "/users/create/",
        {"email": email, "phone_number": phone_number, "password": password},
    )
    if "sms" in started.get("channels", ()):
        raise DemoFailed("This server also sends a code by SMS, which the demo can't read: run it without a gateway.")
    code = _code(client, email)
    _ask(client, None, "POST", "/users/verify/", {"session_id": started["session_id"], "code": code})
    tokens = _ask(client, None, "POST", "/users/token/create/", {"phone_number": phone_number, "password": password})
    _tell(f"{name:<8} {phone_number}  {email}, confirmed by the code in the mail")
    return Person(name, email, tokens["access"])


def _code(client: httpx.Client, email: str) -> str:
    """The six digits of the mail that the worker sends within a moment."""
    give_up_at = time.monotonic() + MAIL_SECONDS
    while time.monotonic() < give_up_at:
        answer = client.get("/dev/mailbox/", params={"to": email}, headers={"Accept": "application/json"})
        if answer.status_code == 404:
            raise DemoFailed("There is no /dev/mailbox/ to read codes in: the demo needs a development server.")
        if answer.status_code == 421:
            raise DemoFailed(_json(answer)["detail"])
        for mail in _json(answer):
            if code := re.search(r"\b\d{6}\b", mail["text"]):
                return code[0]
        time.sleep(0.1)
    raise DemoFailed(f"No code came by mail within {MAIL_SECONDS} seconds: is the worker running?")


def _open_wallet(client: httpx.Client, person: Person, currency: str) -> dict[str, Any]:
    wallet: dict[str, Any] = _ask(client, person, "POST", "/users/wallets/create/", {"amount_currency": currency})
    _tell(f"{person.name:<8} has wallet {wallet['wallet_number']} in {currency}")
    return wallet


def _ask(client: httpx.Client, person: Person | None, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """What the server answers, decoded; an answer that is not a success ends the demo."""
    return _json(_answer(client, person, method, path, body, **more))


def _answer(
    client: httpx.Client,
    person: Person | None,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    token = {"Authorization": f"Bearer {person.access}"} if person else {}
    answer = client.request(method, path, json=body, headers=token | (headers or {}))
    if not answer.is_success:
        problem = _json(answer, strict=False)
        detail = problem.get("detail") or problem.get("title") or answer.reason_phrase
        raise DemoFailed(f"{method} {path} was answered {answer.status_code}: {detail}")
    return answer


def _json(answer: httpx.Response, *, strict: bool = True) -> Any:
    try:
        return answer.json()
    except ValueError:
        if strict:
            raise DemoFailed(f"{answer.request.url} did not answer as a wallet does: it sent no JSON.") from None
        return {}


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoFailed(f"Something is off: {otherwise}.")


def _say(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _tell(text: str) -> None:
    click.echo(f"  {text}")
