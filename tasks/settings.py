"""What both the API and the worker are told by whoever reads the environment."""

from typing import Literal

from msgspec import Struct

from actors.bank import Limits
from actors.engine.locks import Lease
from db.engine import Pool
from tasks.messages.mail import Smtp
from tasks.messages.sms import SmsGateway
from tasks.metrics import Metrics
from tasks.rates.api import RatesSource

DEVELOPMENT_SECRET = "a-development-secret-that-everybody-can-read"  # noqa: S105 - refused in production


class WorkerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a worker: each room's own knobs, and what several of them need."""

    database_url: str = ""
    """PostgreSQL: postgresql://user:password@host:5432/database. If unset, `wallet serve` starts its own."""
    redis_url: str = ""
    """Redis or Valkey: redis://:password@host:6379/0. If unset, `wallet serve` starts its own."""
    environment: Literal["development", "production"] = "development"
    """`development` catches mail and shows it at /dev/mailbox/; `production` requires a mail server and a secret."""
    secret: str = DEVELOPMENT_SECRET
    """Signs tokens and seals codes. In production at least 32 random bytes, the same in every process."""
    coming_secret: str = ""
    """The next secret: what other processes sign and seal with it is accepted. For the first roll of a rotation."""
    retired_secret: str = ""
    """The last secret, accepted likewise. From the second roll of a rotation until its refresh tokens have expired."""
    media_folder: str = "media"
    """The folder for profile images."""
    pool: Pool = Pool()
    bank: Limits = Limits()
    locks: Lease = Lease()
    smtp: Smtp = Smtp()
    sms: SmsGateway = SmsGateway()
    rates: RatesSource = RatesSource()
    metrics: Metrics = Metrics()

    @property
    def other_secrets(self) -> list[str]:
        """The secrets besides the present one that are accepted: during a rotation others sign and seal with them."""
        return [secret for secret in (self.coming_secret, self.retired_secret) if secret]

    @property
    def development(self) -> bool:
        """Whether this is somebody's own machine."""
        return self.environment == "development"
