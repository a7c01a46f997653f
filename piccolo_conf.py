"""Piccolo's configuration: the engine, from `DATABASE_URL`, and the apps whose tables it knows."""

import os
from typing import Any

from piccolo.conf.apps import AppRegistry
from piccolo.engine.postgres import PostgresEngine


class Engine(PostgresEngine):
    """Connects when it is used: Piccolo's own asks for the server's version as soon as it is imported."""

    reserved: Any = None
    """A second pool, of connections that only payments use."""

    async def check_version(self) -> None:
        """The versions we run on are in the README; a missing server is told of by who needs it."""


# Without DATABASE_URL the commands that need no database (the migration check, the OpenAPI document) still import.
DB = Engine(config={"dsn": os.environ.get("DATABASE_URL", "postgresql://localhost/wallet")})

APP_REGISTRY = AppRegistry(
    apps=["db.piccolo_app", "piccolo.apps.user.piccolo_app", "piccolo_api.session_auth.piccolo_app"]
)
