"""What is read in an answer of the rate source, and what is not believed."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from db.currencies import CURRENCIES
from tasks.rates.api import SourceFault, read_answer
from tests.helpers.prices import prices

EVERY = dict.fromkeys(CURRENCIES, 1)
GOOD: dict[str, Any] = {
    "result": "success",
    "time_last_update_unix": 1795392001,
    "base_code": "USD",
    "conversion_rates": EVERY | {"AED": 3.6725, "KZT": 520.1234567891, "EUR": 0.8621},
}


def answer(**changes: Any) -> bytes:
    return msgspec.json.encode({**GOOD, **changes})


def test_a_price_is_read_digit_by_digit() -> None:
    body = answer().replace(b"520.1234567891", b"520.123456789123456789")
    quote = read_answer(200, body, "v6.exchangerate-api.com")
    assert quote.per_dollar == prices(KZT="520.123456789123", EUR="0.8621")
    assert quote.as_of == datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC)


def test_the_open_endpoint_calls_them_rates() -> None:
    body = answer().replace(b"conversion_rates", b"rates")
    assert read_answer(200, body, "open.er-api.com").per_dollar["EUR"] == Decimal("0.8621")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[]",
        answer(result="error", **{"error-type": "invalid-key"}),
        answer(base_code="EUR"),
        answer(conversion_rates=EVERY | {"USD": 2}),
        answer(conversion_rates={code: 1 for code in CURRENCIES if code != "EUR"}),
        answer(conversion_rates=EVERY | {"KZT": 0}),
        answer(conversion_rates=EVERY | {"KZT": -520}),
        answer(conversion_rates=EVERY | {"KZT": None}),
        answer(conversion_rates=EVERY | {"KZT": "NaN"}),
        answer(conversion_rates=EVERY | {"KZT": "Infinity"}),
        answer().replace(b"0.8621", b"1e-20"),
        answer().replace(b"0.8621", b"1e400"),
        answer(time_last_update_unix=0),
        answer(time_last_update_unix=10**18),
    ],
)
def test_anything_else_is_a_fault(body: bytes) -> None:
    with pytest.raises(SourceFault):
        read_answer(200, body, "v6.exchangerate-api.com")


WRITTEN = [
    '"sNaN"',
    '"-sNaN1"',
    '"NaN"',
    "NaN",
    "Infinity",
    '"-Infinity"',
    "-1",
    "-0",
    "0",
    "0.000",
    "1e2",
    "1E-2",
    '"1e2"',
]
WRITTEN += [
    "9" * 8,
    "9" * 100_000,
    "0." + "1" * 100_000,
    "0.000001",
    "[]",
    "{}",
    "true",
    '"1_0"',
    '" 1"',
    '"\uff11"',
    '""',
]


@pytest.mark.parametrize("currency", CURRENCIES)
def test_no_number_but_a_plain_positive_one_is_a_price_and_none_crashes(currency: str) -> None:
    for written in [*WRITTEN, "[" * 100_000]:
        body = answer(conversion_rates=EVERY | {currency: "@"}).replace(b'"@"', written.encode())
        with pytest.raises(SourceFault):
            read_answer(200, body, "host")


@pytest.mark.parametrize("status", [201, 203, 206, 301, 400, 404, 429, 500, 503])
def test_rates_in_an_answer_that_is_no_success_are_not_believed(status: int) -> None:
    with pytest.raises(SourceFault, match=str(status)):
        read_answer(status, answer(), "host")


def test_a_refusal_says_why_only_in_the_sources_own_vocabulary() -> None:
    with pytest.raises(SourceFault, match="quota-reached"):
        read_answer(429, answer(result="error", **{"error-type": "quota-reached"}), "host")
    with pytest.raises(SourceFault, match="no reason"):
        read_answer(403, answer(result="error", **{"error-type": "bad key S3CRET"}), "host")
