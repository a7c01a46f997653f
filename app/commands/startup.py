"""
What each command does before it imports anything else: the environment is completed, and read.

The database engine reads it when it is imported.
"""

import asyncio
import logging
import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.settings import Settings

_log = logging.getLogger(__name__)


def all_settings() -> "Settings":
    """The settings of a command that runs once, for which the servers that they name were found good enough."""
    settings = _settings()
    from app.commands.servers import check_servers

    asyncio.run(check_servers(settings))
    return settings


def server_settings(*, supervised: bool) -> "Settings":
    """The settings of a part that runs alone. A supervised one first makes sure not to outlive its supervisor."""
    if supervised:
        from app.server.supervisor import end_with_supervisor

        end_with_supervisor()
    settings = _settings()
    from app.logs.setup import configure_logs

    configure_logs(settings.log, production=not settings.development)
    return settings


def warn_of_unproven_phones(settings: "Settings") -> None:
    """In production without an SMS gateway. Whoever starts the API calls it once, however many processes that has."""
    if not settings.development and not settings.sms.url:
        _log.warning(
            "Phone numbers are not proven, and people who register can find out which numbers have an account: set"
            " WALLET_SMS_URL to send a second code by SMS."
        )


def database_settings() -> "Settings":
    """The settings of a command that needs a database and nothing else, and one that was found good enough."""
    environment()
    from app.settings import load_settings
    from db.suitability import check_postgres

    settings = load_settings(os.environ, needs=("DATABASE_URL",))
    asyncio.run(check_postgres(settings.database_url, settings.pool.connect_timeout_seconds))
    return settings


def environment(*, with_running: bool = True) -> None:
    """Complete the environment before anything imports the database engine, which reads it."""
    from app.environment import complete_environment

    complete_environment(with_running=with_running)
    # Piccolo warns of a table named `user`, which it quotes everywhere, and of a database that is not there, which is
    # no news to a command that needs none and is said properly by one that does.
    warnings.filterwarnings("ignore", module="piccolo")
    # Plain lines, for whoever has typed the command. Those that keep running log as `app/logs/` says.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # the command itself says in a sentence what it met


def _settings() -> "Settings":
    environment()
    from app.settings import load_settings

    return load_settings(os.environ)
