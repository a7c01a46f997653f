"""Currencies, amounts and conversion. Pure: no clock, no I/O."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from db.currencies import CURRENCIES, MINOR_DIGITS

if TYPE_CHECKING:
    Currency = str
else:
    Currency = Literal[CURRENCIES]
    """What bodies and the OpenAPI document allow. Type checkers can't follow it, and let any text pass."""

CENT = Decimal(1).scaleb(-MINOR_DIGITS)
# What one payment moves at most, on either side; and what a deposit of one's own brings a balance to at most.
PAYMENT_MAX = Decimal("999999999999.99")
# What a wallet can hold. Nobody gets there by receiving, so no refused payment tells what a stranger's wallet holds.
BALANCE_MAX = Decimal(10) ** 24
RATE_STEP = Decimal("0.000000000001")

# What JSON may call an amount: 200, 200.5, 200.00 or the same in quotes. No sign, no exponent, no space.
_AMOUNT = re.compile(rb'("?)((?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,%d})?)\1' % MINOR_DIGITS, re.ASCII)


class InvalidAmount(ValueError):
    """The text is not an amount of money; the message says why, for people."""


def amount_from_json(raw: bytes) -> Decimal:
    """
    The amount in a JSON number or string: positive, at most two decimals, at most 999 999 999 999.99.

    It reads the bytes as they came, since a parsed number no longer shows its exponent or its third decimal.

    Raises:
        InvalidAmount: anything else.
    """
    match = _AMOUNT.fullmatch(raw)
    if not match:
        raise InvalidAmount("Expected an amount such as 200.00, with at most two decimals and below 1 000 000 000 000.")
    amount = Decimal(match[2].decode()).quantize(CENT)
    if not amount:
        raise InvalidAmount("Expected an amount above zero.")
    return amount


class Rates(Struct, frozen=True, kw_only=True):
    """
    What one US dollar costs in each currency, who said so, of what moment, and until when that is believed.

    A currency may be missing: what an older version has kept knows nothing of a new one.
    """

    per_dollar: Mapping[str, Decimal]
    source: str
    as_of: datetime
    valid_until: datetime

    def know(self, *currencies: str) -> bool:
        """Whether each of these has a price."""
        return all(currency in self.per_dollar for currency in currencies)

    def rate(self, base: str, quote: str) -> Decimal:
        """
        What one unit of `base` costs in `quote`, to twelve decimals: the figure that conversions use and name.

        Both have a price. Rounded down: a rate and its way back, both rounded up, would together make money out of a
        large amount.
        """
        with localcontext(prec=40, rounding=ROUND_DOWN):
            return (self.per_dollar[quote] / self.per_dollar[base]).quantize(RATE_STEP)


def convert(amount: Decimal, rate: Decimal) -> Decimal:
    """`amount` at `rate`, rounded down to the cent: the house never pays out a fraction it did not receive."""
    with localcontext(prec=40):
        return (amount * rate).quantize(CENT, rounding=ROUND_DOWN)
