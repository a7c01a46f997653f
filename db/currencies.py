"""The currencies, in one table: whatever else depends on which there are is derived from it. Pure."""

from collections.abc import Iterable

from msgspec import Struct

SYSTEMS = ("cash", "fees", "exchange", "adjustments")
"""The system wallets that each currency has: what is on the other side where money comes in, leaves or changes."""


class CurrencyRow(Struct, frozen=True, kw_only=True):
    """A currency by its ISO 4217 code, and the ids that the migrations give to its system wallets."""

    code: str
    minor_digits: int = 2
    cash: int
    fees: int
    exchange: int
    adjustments: int


# In the order in which people read them. A migration that makes the system wallets goes with a new one: CONTRIBUTING.md
# lists what else does.
_TABLE = (
    CurrencyRow(code="KZT", cash=1, fees=4, exchange=7, adjustments=10),
    CurrencyRow(code="EUR", cash=2, fees=5, exchange=8, adjustments=11),
    CurrencyRow(code="USD", cash=3, fees=6, exchange=9, adjustments=12),
)
CURRENCIES = tuple(row.code for row in _TABLE)

# The columns, the patterns and the roundings of amounts know one number of decimals for all.
(MINOR_DIGITS,) = {row.minor_digits for row in _TABLE}

SYSTEM_WALLET_IDS: dict[tuple[str, str], int] = {
    (system, row.code): getattr(row, system) for row in _TABLE for system in SYSTEMS
}


def in_words(conjunction: str, codes: Iterable[str] = CURRENCIES) -> str:
    """`KZT, EUR and USD`, with this word before the last."""
    *others, last = codes
    return f"{', '.join(others)} {conjunction} {last}"
