"""Registrations begun and finished over HTTP, with any codes."""

import httpx

from tests.helpers.users import PASSWORD, Json

NEW_EMAIL, NEW_PHONE = "new@example.com", "+77010000009"
BOB, BOBS_PHONE = "bob@example.com", "+77010000001"
CAS, CAS_PHONE = "cas@example.com", "+77010000002"


async def start(client: httpx.AsyncClient, email: str = NEW_EMAIL, phone: str = NEW_PHONE) -> Json:
    """Begin one; what was answered."""
    answer = await client.post("/users/create/", json={"email": email, "phone_number": phone, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    session: Json = answer.json()
    return session


async def verify(client: httpx.AsyncClient, session: Json, **codes: str | None) -> tuple[int, Json]:
    """Finish it with these members beside the session: the status and the answer."""
    answer = await client.post("/users/verify/", json={"session_id": session["session_id"], **codes})
    return answer.status_code, answer.json()


def outcome(answer: tuple[int, Json]) -> str:
    """A refusal's code, or `made`."""
    status, body = answer
    return "made" if status == 201 else str(body["code"])


def key_of(session: Json) -> str:
    """Where Redis keeps it."""
    return f"wallet:code:registration:{session['session_id']}"
