"""What the environment decides: each room's own knobs, read once, here."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from math import inf
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, ValidationError
from msgspec.structs import FieldInfo, fields
from phonenumbers import SUPPORTED_REGIONS

from app.auth.tokens import Lifetimes
from app.environment import SettingsError
from app.limits.requests import RateLimits
from app.logs.setup import LogStyle
from app.people.phone_types import USUAL, types_from
from app.server.sockets import Http
from tasks.settings import DEVELOPMENT_SECRET, WorkerSettings

PREFIX = "WALLET_"
SECRET_MIN_BYTES = 32

# These keep the names that everything else knows them by.
URLS = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL", "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}
SCHEMES = {
    "DATABASE_URL": ("postgresql", "postgres"),
    "REDIS_URL": ("redis", "rediss", "unix"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http", "https"),
    "WALLET_PUBLIC_URL": ("https", "http"),
    "WALLET_SMS_URL": ("https", "http"),
}
_OWN_HOSTS = ("127.0.0.1", "::1", "localhost")
# Libraries read these by themselves. What they switch on shows strangers our stack, or stops for a debugger.
DEBUGGING = ("LITESTAR_DEBUG", "LITESTAR_PDB", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE")
CONFIDENTIAL = ("secret", "password", "token", "api_key", "database_url", "redis_url", "otlp_endpoint")


class Settings(WorkerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of a process."""

    public_url: str = "http://127.0.0.1:8000"
    """The URL at which clients reach the API, without a trailing slash."""
    phone_region: str = "KZ"
    """The country (ISO 3166) of phone numbers without a country code."""
    phone_types: str = USUAL
    """Comma-separated kinds of phone numbers that may register; docs/operations.md lists all."""
    otlp_endpoint: str = ""
    """Send traces to this OpenTelemetry collector over HTTP, such as http://collector:4318. Unset: no traces."""
    tokens: Lifetimes = Lifetimes()
    http: Http = Http()
    limits: RateLimits = RateLimits()
    log: LogStyle = LogStyle()


def variables(struct: type[Struct] = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, type[Struct], FieldInfo]]:
    """Every variable that is read, a struct's own first: its name, the struct, and the field it sets."""
    for field in fields(struct):
        if not _is_struct(field):
            yield _variable(field, prefix), struct, field
    for field in fields(struct):
        if _is_struct(field):
            yield from variables(field.type, f"{prefix}{field.name.upper()}_")


def load_settings(
    environ: Mapping[str, str],
    *,
    needs: tuple[Literal["DATABASE_URL", "REDIS_URL"], ...] = ("DATABASE_URL", "REDIS_URL"),
) -> Settings:
    """
    The settings that `environ` describes. A variable that is set to nothing counts as unset.

    Raises:
        SettingsError: a variable is unknown, has a bad value, or is missing.
    """
    known = [name for name, _, _ in variables()]
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(
                f"{name} is not a setting.{_did_you_mean(name, known)} See .env.example for all of them."
            )
    settings: Settings = _read(Settings, PREFIX, environ)
    for name in needs:
        if not environ.get(name):
            raise SettingsError(f"{name} is missing: set it, or run `wallet serve`, which brings its own servers.")
    for name, schemes in SCHEMES.items():
        url = environ.get(name)
        if url and url.partition(":")[0].lower() not in schemes:
            raise SettingsError(f"{name} must begin with {schemes[0]}:// (its value is not shown here).")
    if settings.phone_region not in SUPPORTED_REGIONS:
        raise SettingsError(
            f"WALLET_PHONE_REGION must be a country's two letters, such as KZ, not {settings.phone_region!r}."
        )
    try:
        types_from(settings.phone_types)
    except ValueError as error:
        raise SettingsError(f"WALLET_PHONE_TYPES: {error}") from None
    if not settings.development:
        _refuse_in_production(settings, environ)
    return settings


def _read(struct: type[Struct], prefix: str, environ: Mapping[str, str]) -> Any:
    """One struct out of the variables that begin with `prefix`."""
    values: dict[str, Any] = {}
    for field in fields(struct):
        if _is_struct(field):
            values[field.name] = _read(field.type, f"{prefix}{field.name.upper()}_", environ)
        elif text := environ.get(name := _variable(field, prefix), ""):
            values[field.name] = _convert(name, text, field)
    try:
        return struct(**values)
    except ValueError as error:  # a struct's own __post_init__
        raise SettingsError(f"{prefix}{error}") from None


def _is_struct(field: FieldInfo) -> bool:
    return isinstance(field.type, type) and issubclass(field.type, Struct)


def _variable(field: FieldInfo, prefix: str) -> str:
    return URLS.get(field.name, f"{prefix}{field.name.upper()}")


def _convert(name: str, text: str, field: FieldInfo) -> Any:
    try:
        value = msgspec.convert(text.strip(), field.type, strict=False)
    except ValidationError:
        shown = "" if _is_confidential(field) else f", not {text!r}"
        raise SettingsError(f"{name} must be {_expected(field.type)}{shown}.") from None
    if isinstance(value, int | float | Decimal) and not 0 <= value < inf:
        raise SettingsError(f"{name} must be zero or more, not {text!r}.")
    return value


def _expected(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        kind, bound = get_args(kind)
        return f"{_expected(kind)} of at least {bound.ge}"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    return {int: "a whole number", float: "a number", Decimal: "a number", bool: "true or false"}.get(
        kind, f"a value such as a {kind} has"
    )


def _is_confidential(field: FieldInfo) -> bool:
    return any(word in field.name for word in CONFIDENTIAL)


def _did_you_mean(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=0.7)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def _is_weak(secret: str) -> bool:
    return secret == DEVELOPMENT_SECRET or len(secret.encode()) < SECRET_MIN_BYTES or len(set(secret)) < 8


def _refuse_in_production(settings: Settings, environ: Mapping[str, str]) -> None:
    _refuse_weak_secrets(settings)
    if not settings.smtp.host:
        raise SettingsError("WALLET_SMTP_HOST is missing: production needs a mail server to send codes through.")
    if settings.smtp.username and settings.smtp.tls == "none" and settings.smtp.host not in _OWN_HOSTS:
        raise SettingsError("WALLET_SMTP_TLS is none: the mail server's password would go there for all to read.")
    for name, url, secret in (
        ("WALLET_SMS_URL", settings.sms.url, settings.sms.token),
        ("WALLET_RATES_BASE_URL", settings.rates.base_url, settings.rates.api_key),
    ):
        if secret and urlsplit(url).scheme == "http" and urlsplit(url).hostname not in _OWN_HOSTS:
            raise SettingsError(
                f"{name} begins with http://: its token or key would be sent unencrypted. Use https://."
            )
    for name in DEBUGGING:
        if environ.get(name, "0") not in ("", "0"):
            raise SettingsError(f"{name} is set: production runs without debugging. Unset it.")


def _refuse_weak_secrets(settings: Settings) -> None:
    if settings.secret == DEVELOPMENT_SECRET:
        raise SettingsError("WALLET_SECRET is missing: production needs a random one of at least 32 bytes of its own.")
    if _is_weak(settings.secret):
        raise SettingsError("WALLET_SECRET is too weak for production: make it at least 32 random bytes.")
    for name, secret in (
        ("WALLET_RETIRED_SECRET", settings.retired_secret),
        ("WALLET_COMING_SECRET", settings.coming_secret),
    ):
        if secret and _is_weak(secret):
            raise SettingsError(f"{name} is too weak: whoever has it signs in as anybody. Unset it.")
