"""
Users of the API for tests, signed in and with wallets and money.

`register` puts a `Person` straight into the database; a `Member`, from the fixtures `join`, `ann` and `ben`, has come
by the front door, with a code and a password.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
from litestar import Litestar

from app.auth.tokens import Lifetimes, Tokens
from db.tables import User
from tasks.settings import DEVELOPMENT_SECRET

PASSWORD = "correct horse battery staple"

Json = dict[str, Any]

ANN: Json = {"email": "ann@example.com", "phone_number": "+77011234567", "password": PASSWORD}

_numbers = count(1)


@dataclass
class Person:
    """Someone who has signed in. Each method is one request, and returns the response as it is."""

    user_id: UUID
    client: httpx.AsyncClient
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What signs a request of theirs."""
        return {"Authorization": f"Bearer {self.token}"}

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request, with this person's token."""
        headers = self.headers | options.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **options)

    async def open_wallet(self, currency: str = "KZT", *, holding: str | None = None) -> "OpenWallet":
        """A wallet, with a first deposit where `holding` is given."""
        response = await self.request("POST", "/users/wallets/create/", json={"amount_currency": currency})
        assert response.status_code == 201, response.text
        wallet = OpenWallet(self, response.json()["id"], response.json()["wallet_number"])
        if holding:
            response = await wallet.deposit(holding)
            assert response.status_code == 201, response.text
        return wallet


@dataclass
class Member(Person):
    """Someone who has a password, and has signed in with it."""

    user: Json
    tokens: Json
    password: str = PASSWORD

    @property
    def headers(self) -> dict[str, str]:
        """With the access token of `tokens`, which a test may exchange."""
        return {"Authorization": f"Bearer {self.tokens['access']}"}


@dataclass
class OpenWallet:
    """A wallet of a person's."""

    owner: Person
    id: int
    number: str

    async def post(self, action: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
        """A request that moves money."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self.owner.request("POST", f"/users/wallets/{self.id}/{action}/", json=body, headers=headers)

    async def deposit(self, amount: str, key: str | None = None) -> httpx.Response:
        """Money into it."""
        return await self.post("deposit", {"amount": amount}, key)

    async def withdraw(self, amount: str, key: str | None = None) -> httpx.Response:
        """Money out of it."""
        return await self.post("withdraw", {"amount": amount}, key)

    async def send(
        self, amount: str, to: "OpenWallet | str", key: str | None = None, **optional: str
    ) -> httpx.Response:
        """Send money to another wallet, with any of a transfer's optional members."""
        body = {"wallet_number": to if isinstance(to, str) else to.number, "amount": amount}
        return await self.post("transfer", body | optional, key)

    async def send_all(
        self,
        transfers: "Sequence[Wish]",
        *,
        atomic: bool | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """Send money to many."""
        items: list[dict[str, str]] = []
        for to, *rest in transfers:
            number = to if isinstance(to, str) else to.number
            items.append({"wallet_number": number, **dict(zip(("amount", "reference"), rest, strict=False))})
        return await self.post("transfers", {"transfers": items} | ({} if atomic is None else {"atomic": atomic}), key)

    async def shown(self) -> dict[str, Any]:
        """The wallet as its owner sees it."""
        response = await self.owner.request("GET", f"/users/wallets/{self.id}/")
        assert response.status_code == 200, response.text
        seen: dict[str, Any] = response.json()
        return seen

    async def balance(self) -> Decimal:
        """What it holds."""
        return Decimal((await self.shown())["amount"])

    async def history(self, **query: Any) -> list[dict[str, Any]]:
        """Its transactions, newest first."""
        response = await self.owner.request("GET", f"/users/wallets/{self.id}/transactions/", params=query)
        assert response.status_code == 200, response.text
        seen: list[dict[str, Any]] = response.json()
        return seen


Wish = tuple[OpenWallet | str, str] | tuple[OpenWallet | str, str, str]
"""Of a bulk: to whom, how much and with what reference."""


Join = Callable[..., Awaitable[Member]]
CodeOf = Callable[[Json], Awaitable[str]]


async def register(client: httpx.AsyncClient, tokens: Tokens | None = None) -> Person:
    """A new person, put straight into the database: the way through codes has tests of its own."""
    number = next(_numbers)
    user = User(email=f"person{number}@example.com", phone_number=f"+7701{number:07}", password_hash="none")
    await user.save()
    tokens = tokens or Tokens(DEVELOPMENT_SECRET, Lifetimes())
    return Person(user.id, client, tokens.access(user.id, uuid4()))


def tokens_of(app: Litestar) -> Tokens:
    """What signs this application's tokens."""
    tokens: Tokens = app.state.tokens
    return tokens


def wrong(code: str) -> str:
    """Another code than this one."""
    return f"{(int(code) + 1) % 1_000_000:06d}"


async def start_password(client: httpx.AsyncClient, person: Member, new: str, current: str = PASSWORD) -> Any:
    """Ask for a code that will change a password."""
    body = {"password": current, "new_password": new}
    return await client.post("/users/password/update/", json=body, headers=person.headers)
