"""`/users/wallets/`: open, list, look at, rename."""

from typing import Annotated

from litestar import get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from actors.money import Currency
from actors.refusals import DatabaseUnavailable, WalletNotFound
from app.auth.tokens import SIGNED_OUT, Caller, signed_in
from app.http.controller import OrderedController
from app.http.explanations import NOT_BLANK
from app.http.parameters import WalletId, wallet_id_in
from app.http.problems import BAD_BODY, ValidationFailed, problems
from app.wallets.opening import WalletExists, open_wallet, rename_wallet
from app.wallets.views import WalletView, wallet_of, wallets_of
from db.currencies import in_words

WalletName = Annotated[
    str, Meta(max_length=30, pattern=NOT_BLANK, description="Something visible.", examples=["Groceries"])
]


class CreateWallet(Struct, frozen=True, kw_only=True):
    """A wallet to be opened."""

    name: WalletName = "My wallet"
    amount_currency: Currency = "KZT"


class UpdateWallet(Struct, frozen=True, kw_only=True):
    """What can be changed of a wallet."""

    name: WalletName | None = None


class WalletsController(OrderedController):
    """The caller's wallets."""

    path = "/users/wallets"
    tags = ["Wallets"]
    before_request = staticmethod(signed_in)

    @post(
        "/create",
        summary="Open a wallet",
        description=(
            f"Opens a wallet in {in_words('or')}; you can have one per currency.\n\n"
            "A wallet pays 200 KZT every 30 days, and is blocked while it can't."
        ),
        response_description="The new wallet, empty.",
        responses=problems(*BAD_BODY, WalletExists, *SIGNED_OUT, DatabaseUnavailable),
    )
    async def create_wallet(self, caller: NamedDependency[Caller], data: JSONBody[CreateWallet]) -> WalletView:
        """See `description`, which names the currencies."""
        return await open_wallet(caller.user_id, name=data.name.strip(), currency=data.amount_currency)

    @get(
        "/",
        summary="List your wallets",
        response_description="Your wallets, at most one per currency.",
        responses=problems(*SIGNED_OUT, DatabaseUnavailable),
    )
    async def list_wallets(self, caller: NamedDependency[Caller]) -> list[WalletView]:
        """Lists all your wallets, oldest first."""
        return await wallets_of(caller.user_id)

    @get(
        "/{id:str}",
        summary="Get a wallet",
        response_description="The wallet.",
        responses=problems(ValidationFailed, *SIGNED_OUT, WalletNotFound, DatabaseUnavailable),
    )
    async def get_wallet(self, caller: NamedDependency[Caller], id: WalletId) -> WalletView:
        """Returns one of your wallets: its balance, and whether it is blocked or frozen."""
        return await wallet_of(caller.user_id, wallet_id_in(id))

    @patch(
        "/{id:str}/update",
        summary="Rename a wallet",
        response_description="The wallet, with its new name.",
        responses=problems(*BAD_BODY, *SIGNED_OUT, WalletNotFound, DatabaseUnavailable),
    )
    async def update_wallet(
        self, caller: NamedDependency[Caller], id: WalletId, data: JSONBody[UpdateWallet]
    ) -> WalletView:
        """Renames a wallet. A name has at most 30 characters."""
        user_id, wallet_id = caller.user_id, wallet_id_in(id)
        if data.name is None:
            return await wallet_of(user_id, wallet_id)
        return await rename_wallet(user_id, wallet_id, data.name.strip())
