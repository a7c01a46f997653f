"""exchangerate-api.com: ask it what a US dollar costs."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus

import httpx
import msgspec
from msgspec import Struct, defstruct
from msgspec.structs import asdict

from actors.money import RATE_STEP
from db.currencies import CURRENCIES
from tasks import outgoing

KEYED_URL = "https://v6.exchangerate-api.com"
OPEN_URL = "https://open.er-api.com"
ASK_SECONDS = 15.0
ANSWER_BYTES_MAX = 256 * 1024  # it lists 160 currencies in 4 KiB

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
_ERROR_TYPE = re.compile(r"[a-z-]{1,40}")


class RatesSource(Struct, frozen=True, kw_only=True):
    """The source of exchange rates, and which rates are accepted."""

    api_key: str = ""
    """With a key the keyed API is used, without one the open endpoint."""
    base_url: str = ""
    """Another server with the same API. Empty: exchangerate-api.com."""
    max_age_hours: float = 48
    """Conversions are refused if the rates are older."""
    max_change_percent: Decimal = Decimal(20)
    """A larger change from the last rate is rejected until an operator accepts it."""


class Quote(Struct, frozen=True, kw_only=True):
    """What one US dollar costs, by the source's word, and of what moment it speaks."""

    per_dollar: dict[str, Decimal]
    source: str
    as_of: datetime


class SourceFault(Exception):
    """The source gave no usable answer. The sentence never holds the API key or an address that does."""


# A member for each of our currencies: the other hundred and fifty of the answer are not even looked at. As they are
# written, since `Decimal` takes more for a number than a price can be: sNaN, 1e999999, a hundred thousand digits.
_Prices = defstruct("_Prices", [(code, msgspec.Raw) for code in CURRENCIES])
_PRICE = re.compile(rb'"?(\d{1,7}(?:\.\d{1,40})?)"?')
# With `_PRICE`, so that what one currency costs in another has twelve digits before the point, as its column has.
_PRICE_MIN = Decimal("0.00001")


class _Published(Struct):
    result: str = ""
    error_type: str = msgspec.field(name="error-type", default="")
    base_code: str = ""
    time_last_update_unix: int = 0
    conversion_rates: _Prices | None = None  # type: ignore[valid-type]  # made above
    rates: _Prices | None = None  # type: ignore[valid-type]


async def ask(source: RatesSource) -> Quote:
    """
    What the source says now.

    Raises:
        SourceFault: it can't be reached, is slow, says too much, or its answer makes no sense. It is not followed to
            another address.
    """
    base = (source.base_url or (KEYED_URL if source.api_key else OPEN_URL)).rstrip("/").removesuffix("/v6")
    address = f"{base}/v6/{source.api_key}/latest/USD" if source.api_key else f"{base}/v6/latest/USD"
    try:
        async with outgoing.request("GET", address, seconds=ASK_SECONDS, headers=_HEADERS) as response:
            body = await outgoing.body(response, ANSWER_BYTES_MAX)
    except outgoing.TooLong:
        raise SourceFault("The rate source's answer is too long for rates.") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise SourceFault(f"The rate source could not be reached ({type(error).__name__}).") from None
    return read_answer(response.status_code, body, httpx.URL(base).host)


def read_answer(status: int, body: bytes, host: str) -> Quote:
    """
    The quote in an answer of either endpoint.

    Raises:
        SourceFault: it holds none, or prices that no currency can have.
    """
    try:
        answer = msgspec.json.decode(body, type=_Published)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceFault(f"The rate source answered {status} with something that is not rates.") from None
    if answer.result != "success":
        reason = answer.error_type if _ERROR_TYPE.fullmatch(answer.error_type) else "no reason"
        raise SourceFault(f"The rate source answered {status} and refused: {reason}.")
    if status != HTTPStatus.OK:
        raise SourceFault(f"The rate source answered {status}: whatever rates it may hold are not meant.")
    published = answer.conversion_rates or answer.rates
    prices: dict[str, Decimal] = {code: _price(raw) for code, raw in asdict(published).items()} if published else {}
    if answer.base_code != "USD" or prices.get("USD") != 1 or answer.time_last_update_unix <= 0:
        raise SourceFault("The rate source's answer is not a list of prices of one US dollar with its time.")
    try:
        as_of = datetime.fromtimestamp(answer.time_last_update_unix, UTC)
    except (ValueError, OverflowError, OSError):
        raise SourceFault("The rate source named a time that does not exist.") from None
    return Quote(per_dollar=prices | {"USD": Decimal(1)}, source=host, as_of=as_of)


def _price(written: msgspec.Raw) -> Decimal:
    # Digit by digit: no float in between.
    digits = _PRICE.fullmatch(bytes(written))
    price = Decimal(digits[1].decode()).quantize(RATE_STEP) if digits else Decimal(0)
    if price < _PRICE_MIN:
        raise SourceFault("The rate source named a price that is not a sensible positive number.")
    return price
