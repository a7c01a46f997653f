"""`wallet fees` and `wallet rates`: what the worker does on a schedule, once and now."""

from app.commands.output import open_redis, progress_bar
from app.settings import Settings
from db.engine import connection_pool
from tasks.banking import Banking
from tasks.fees import FeesCharged, charge_due_fees
from tasks.rates.fetching import RatesFetched, fetch_rates


async def charge_fees(settings: Settings) -> FeesCharged:
    """Charge what is due, with a bank of this process's own."""
    async with open_redis(settings) as redis, connection_pool(settings.pool):
        banking = Banking(settings, redis)
        async with banking.running():
            with progress_bar() as progress:
                bar = progress.add_task("Fees", total=None)

                def show(run: FeesCharged, walked: int) -> None:
                    progress.update(bar, completed=walked, total=max(run.due, walked))

                return await charge_due_fees(banking.bank, banking.board.current(), progress=show)


async def get_rates(settings: Settings, *, accept: bool) -> RatesFetched:
    """Fetch rates and publish them."""
    async with open_redis(settings) as redis, connection_pool(settings.pool):
        with progress_bar() as progress:
            progress.add_task("Rates", total=None)
            return await fetch_rates(redis, settings.rates, development=settings.development, accept=accept)
