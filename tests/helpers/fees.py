"""The worker's run of fees, beside an API in this process."""

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Litestar

from actors.bank import Bank
from db.tables import Wallet
from tasks.fees import FeesCharged, charge_due_fees
from tasks.rates.board import RateBoard
from tests.helpers.users import OpenWallet


class FeeDay:
    """What runs the fees: the bank and the rates of the application, as the worker has its own."""

    def __init__(self, app: Litestar) -> None:
        made: Any = app.dependencies
        self.bank: Bank = made["bank"].dependency()
        self.board: RateBoard = made["health_checks"].dependency().board

    async def run(self) -> FeesCharged:
        """Charge what is due now."""
        return await charge_due_fees(self.bank, self.board.current())


async def make_due(wallet: OpenWallet, *, days_ago: float = 1) -> datetime:
    """Let a wallet's fee have been due some days ago; that instant."""
    due_at = datetime.now(UTC) - timedelta(days=days_ago)
    await Wallet.update({Wallet.fee_due_at: due_at}).where(Wallet.id == wallet.id)
    return due_at
