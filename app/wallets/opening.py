"""Opening and renaming wallets: what happens to a wallet without moving money."""

from secrets import randbelow
from uuid import UUID

from asyncpg.exceptions import ForeignKeyViolationError, UniqueViolationError

from actors.money import Currency
from actors.refusals import Refusal, WalletNotFound
from actors.rules.fees import FEE_PERIOD
from app.auth.tokens import TokenInvalid
from app.auth.turns import turn_of
from app.wallets.views import WalletView, wallet_of
from db.tables import Wallet

_NUMBER_ATTEMPTS = 10

# By PostgreSQL's clock, by which the fee is charged.
_OPEN = """
INSERT INTO "wallet" ("user", "wallet_number", "name", "amount_currency", "fee_due_at")
VALUES ({}, {}, {}, {}, now() + {}) RETURNING "id"
"""

# Not where an erasure has taken the name away: an access token outlives it by minutes.
_RENAME = """
UPDATE "wallet" SET "name" = {}, "updated_at" = now() WHERE "id" = {} AND "user" = {}
    AND EXISTS (SELECT 1 FROM "user" WHERE "id" = "wallet"."user" AND "erased_at" IS NULL) RETURNING "id"
"""


class WalletExists(Refusal):
    code = "wallet_exists"
    title = "There is a wallet in this currency already."
    detail = "Each person has at most one wallet in a currency. Use that one, or choose another currency."


async def open_wallet(user_id: UUID, *, name: str, currency: Currency) -> WalletView:
    """
    Open an empty wallet; its first monthly fee is due one period from now.

    Raises:
        WalletExists: the person has one in this currency.
        TokenInvalid: the person is gone.
    """
    for _ in range(_NUMBER_ATTEMPTS):
        number = str(10**9 + randbelow(9 * 10**9))
        try:
            async with turn_of(user_id):
                (opened,) = await Wallet.raw(_OPEN, user_id, number, name, currency, FEE_PERIOD)
        except UniqueViolationError as error:
            if error.constraint_name == "wallet_one_per_currency":
                raise WalletExists() from None
            continue  # the number is taken: of nine thousand million, so once in a lifetime
        except ForeignKeyViolationError:
            raise TokenInvalid() from None
        return await wallet_of(user_id, opened["id"])
    raise RuntimeError("no free wallet number was found")


async def rename_wallet(user_id: UUID, wallet_id: int, name: str) -> WalletView:
    """
    Give a wallet of the person's another name.

    Raises:
        WalletNotFound: there is none, or it is somebody else's.
    """
    async with turn_of(user_id):
        renamed = await Wallet.raw(_RENAME, name, wallet_id, user_id)
    if not renamed:
        raise WalletNotFound()
    return await wallet_of(user_id, wallet_id)
