"""Members, the codes they are sent, and a cable to the database, for the tests of the API."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from litestar import Litestar

from app.proof.cable import Cable, cable
from app.settings import Settings
from app.staff.logins import StaffLogin
from db.engine import engine
from db.tables import Message
from tasks.messages.sealing import Seal
from tests.helpers.fees import FeeDay
from tests.helpers.users import ANN, PASSWORD, CodeOf, Join, Json, Member


@pytest.fixture
def code_of(settings: Settings) -> CodeOf:
    """The code that was mailed for a session, read from the message before a worker takes it."""

    async def read(session: Json) -> str:
        return await _sent_code(settings, f"%_code:{session['session_id']}")

    return read


@pytest.fixture
def phone_code_of(settings: Settings) -> CodeOf:
    """The code that is sent by SMS, likewise."""

    async def read(session: Json) -> str:
        return await _sent_code(settings, f"%_code:{session['session_id']}:sms")

    return read


async def _sent_code(settings: Settings, event: str) -> str:
    row = await Message.select().where(Message.event.like(event)).first()
    assert row is not None, "no code was sent"
    return Seal(settings.secret).open(bytes(row["sealed"]))


@pytest.fixture
def join(client: httpx.AsyncClient, code_of: CodeOf, phone_code_of: CodeOf) -> Join:
    """Registers and signs in whoever a test needs."""

    async def make(*, email: str, phone_number: str, password: str = PASSWORD) -> Member:
        body = {"email": email, "phone_number": phone_number, "password": password}
        session = (await client.post("/users/create/", json=body)).json()
        codes = {"session_id": session["session_id"], "code": await code_of(session)}
        if "sms" in session["channels"]:
            codes["phone_code"] = await phone_code_of(session)
        answer = await client.post("/users/verify/", json=codes)
        assert answer.status_code == 201, answer.text
        signed_in = await client.post("/users/token/create/", json={"phone_number": phone_number, "password": password})
        assert signed_in.status_code == 201, signed_in.text
        user, tokens = answer.json(), signed_in.json()
        return Member(UUID(user["id"]), client, tokens["access"], user=user, tokens=tokens, password=password)

    return make


@pytest.fixture
async def ann(join: Join) -> Member:
    """Ann, who has registered and signed in."""
    return await join(**ANN)


@pytest.fixture
async def ben(join: Join) -> Member:
    """Ben, likewise."""
    return await join(email="ben@example.com", phone_number="+77017654321")


@pytest.fixture
def fees(app: Litestar) -> FeeDay:
    """What charges the fees that are due, as the worker does every five minutes."""
    return FeeDay(app)


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Cable]:
    """A cable between PostgreSQL and whoever connects from now on: ask for it before the application is made."""
    async with cable(database_url) as between:
        engine().config["dsn"] = between.url
        yield between
        engine().config["dsn"] = database_url


@pytest.fixture(autouse=True, scope="session")
def staff_passwords_are_hashed_quickly() -> None:
    """Staff sign in hundreds of times here; with Piccolo's number of iterations that alone takes minutes."""
    StaffLogin._pbkdf2_iteration_count = 1_000
