"""The settings of a production server, for tests."""

from msgspec.structs import replace

from app.settings import Settings
from tasks.messages.mail import Smtp

ADDRESS = "https://wallet.example"


def in_production(settings: Settings) -> Settings:
    """The same servers, behind a proxy that speaks TLS at `ADDRESS`."""
    return replace(
        settings,
        environment="production",
        secret="0123456789abcdefghijklmnopqrstuvwxyz",
        public_url=ADDRESS,
        smtp=Smtp(host="127.0.0.1"),
    )
