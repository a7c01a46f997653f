"""Large bodies that take their time hold memory: so much of it and no more, and nobody all of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from app.limits import bodies as large_bodies
from app.limits.bodies import ADDRESS_BYTES_MAX, PERSON_BYTES_MAX, LargeBodies
from app.payments.bulk import BULK_BODY_MAX_BYTES
from tests.helpers.users import OpenWallet, Person, register
from tests.helpers.waiting import until

MEBIBYTE = 1024 * 1024
BULKS = PERSON_BYTES_MAX // BULK_BODY_MAX_BYTES
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture
def room(app: Litestar) -> LargeBodies:
    kept: LargeBodies = app.state.large_bodies
    return kept


@pytest.fixture
async def alice(client: httpx.AsyncClient) -> OpenWallet:
    return await (await register(client)).open_wallet(holding="10")


@pytest.fixture
async def bob(client: httpx.AsyncClient) -> OpenWallet:
    return await (await register(client)).open_wallet(holding="10")


class Slow:
    """Requests whose bodies have begun, and end when it is said."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.asked: list[asyncio.Task[httpx.Response]] = []

    async def body(self) -> AsyncIterator[bytes]:
        yield b'{"transfers": ['
        await self.end.wait()
        yield b"]}"

    def ask(self, person: Person, path: str, *, method: str = "POST", headers: dict[str, str] = JSON) -> None:
        request = person.request(method, path, content=self.body(), headers=headers)
        self.asked.append(asyncio.create_task(request))


async def bulk(of: OpenWallet, to: OpenWallet, *, padding: int = 0) -> httpx.Response:
    """One transfer, in a body that says how large it is."""
    body = b'{"transfers": [{"wallet_number": "%b", "amount": "1"}]%b}' % (to.number.encode(), b" " * padding)
    path = f"/users/wallets/{of.id}/transfers"
    return await of.owner.request("POST", path, content=body, headers=JSON)


def no_room(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.headers.get("Retry-After")) == (503, "1") and answer.json()[
        "code"
    ] == "overloaded"


async def test_one_person_does_not_get_all_of_it(room: LargeBodies, alice: OpenWallet, bob: OpenWallet) -> None:
    slow = Slow()
    for _ in range(BULKS):
        slow.ask(alice.owner, f"/users/wallets/{alice.id}/transfers")
    await until(lambda: room._bytes_of.total() == BULKS * BULK_BODY_MAX_BYTES)
    assert no_room(await bulk(alice, bob, padding=BULK_BODY_MAX_BYTES - 1_000))
    assert (await bulk(alice, bob, padding=60_000)).status_code == 201, "what is no larger than others is read"
    assert (await bulk(bob, alice, padding=MEBIBYTE)).status_code == 201, "there is room for others"
    slow.end.set()
    assert {answer.status_code for answer in await asyncio.gather(*slow.asked)} == {400}
    assert room._bytes_of == {}
    assert (await bulk(alice, bob, padding=MEBIBYTE)).status_code == 201


async def test_all_together_do_not_get_more_than_there_is(
    room: LargeBodies, alice: OpenWallet, bob: OpenWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_bodies, "ALL_BYTES_MAX", BULK_BODY_MAX_BYTES + MEBIBYTE)
    slow = Slow()
    slow.ask(alice.owner, f"/users/wallets/{alice.id}/transfers")
    await until(lambda: bool(room._bytes_of))
    assert no_room(await bulk(bob, alice, padding=MEBIBYTE + 200_000))
    assert (await bulk(bob, alice, padding=MEBIBYTE - 200_000)).status_code == 201
    slow.asked[0].cancel()
    await asyncio.wait(slow.asked)
    assert room._bytes_of == {}, "who has gone holds nothing"
    assert (await bulk(bob, alice, padding=MEBIBYTE + 200_000)).status_code == 201


async def test_images_are_large_too(room: LargeBodies, alice: OpenWallet) -> None:
    slow = Slow()
    for _ in range(3):
        slow.ask(alice.owner, "/users/update", method="PATCH", headers=FORM)
    await until(lambda: room._bytes_of.total() > 15 * MEBIBYTE)
    form = b"--x\r\nContent-Disposition: form-data; name=%b\r\n\r\nAnn\r\n--x--\r\n"
    names = [form % b"first_name", form % (b"first_name" + b" " * 2 * MEBIBYTE)]
    answers = [await alice.owner.request("PATCH", "/users/update", content=body, headers=FORM) for body in names]
    assert answers[0].status_code == 200
    assert no_room(answers[1])
    slow.end.set()
    assert 503 not in {answer.status_code for answer in await asyncio.gather(*slow.asked)}
    assert room._bytes_of == {}


async def test_one_address_does_not_get_all_of_it(app: Litestar, alice: OpenWallet, bob: OpenWallet) -> None:
    room = app.state.large_bodies = LargeBodies(per_address=True)
    bulks = ADDRESS_BYTES_MAX // BULK_BODY_MAX_BYTES

    def at(address: str, person: Person) -> Person:
        transport = httpx.ASGITransport(cast(Any, app), client=(address, 1))
        return Person(
            person.user_id, httpx.AsyncClient(transport=transport, base_url="http://wallet.test"), person.token
        )

    slow, crowd = Slow(), [await register(alice.owner.client) for _ in range(bulks)]
    for number, person in enumerate(crowd):  # one customer's /64
        slow.ask(at(f"2001:db8:0:1::{number:x}", person), f"/users/wallets/{alice.id}/transfers")
    await until(lambda: room._bytes == bulks * BULK_BODY_MAX_BYTES)
    alice.owner = at("2001:db8:0:1:ffff::1", alice.owner)
    assert no_room(await bulk(alice, bob, padding=BULK_BODY_MAX_BYTES - 1_000))
    for elsewhere in ("2001:db8:0:2::1", "192.0.2.1"):
        alice.owner = at(elsewhere, alice.owner)
        assert (await bulk(alice, bob, padding=BULK_BODY_MAX_BYTES - 1_000)).status_code == 201
    slow.end.set()
    assert 503 not in {answer.status_code for answer in await asyncio.gather(*slow.asked)}
    assert (room._bytes, room._bytes_of) == (0, {})
