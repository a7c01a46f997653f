"""Whether the servers that the environment names are good enough, before anything is done with them."""

from app.settings import Settings
from db.suitability import check_postgres
from tasks.redis_check import check_redis


async def check_servers(settings: Settings) -> None:
    """Raises what `check_postgres` and `check_redis` do."""
    await check_redis(settings.redis_url)
    await check_postgres(settings.database_url, settings.pool.connect_timeout_seconds)
