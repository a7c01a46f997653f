"""Amounts are read exactly as the contract says, and conversion never gives anybody a fraction that was not there."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.money import CENT, PAYMENT_MAX, InvalidAmount, Rates, amount_from_json, convert
from db.currencies import CURRENCIES
from tests.helpers.prices import rates_at

NOW = datetime(2026, 3, 1, tzinfo=UTC)

amounts = st.one_of(
    st.decimals(min_value=CENT, max_value=PAYMENT_MAX, places=2),
    st.decimals(min_value=CENT, max_value=1000, places=2),
    st.sampled_from([CENT, PAYMENT_MAX]),
)
currencies = st.sampled_from(CURRENCIES)
prices = st.one_of(
    st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(100_000), places=6),
    st.decimals(min_value=Decimal("0.5"), max_value=Decimal(2), places=4),
    st.decimals(min_value=Decimal(400), max_value=Decimal(600), places=2),
)
boards = st.builds(
    lambda known: rates_at(as_of=NOW, valid_until=NOW, **known),
    st.fixed_dictionaries({code: prices for code in CURRENCIES if code != "USD"}),
)


def what_the_contract_says(raw: bytes) -> Decimal | None:
    """The amount in a JSON value by way of the standard library's parser; None where it has to be refused."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        return None
    if len(text) > 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if text != text.strip() or not set("-eEINf").isdisjoint(text):
        return None
    try:
        number = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    except ValueError:
        return None
    if not isinstance(number, Decimal) or len(text.partition(".")[2]) > 2:
        return None
    return number if 0 < number <= Decimal("999999999999.99") else None


good = amounts.flatmap(lambda a: st.sampled_from([str(a), f'"{a}"', str(a.to_integral_value()), f"{a.normalize():f}"]))
near = st.builds(
    lambda text, at, junk, cut: text[: at % (len(text) + 1)] + junk + text[at % (len(text) + 1) + cut :],
    good,
    st.integers(0, 20),
    st.sampled_from(
        ["", "0", "00", "9", ".", "..", ",", "-", "+", "e2", "E+1", " ", "_", '"', "\\u0031", "\n", "\u0663", "\uff11"]
    ),
    st.integers(0, 2),
)
soup = st.text(alphabet='0123456789.-+eE" _,', max_size=18)
special = st.sampled_from(
    ["NaN", "Infinity", "-1", "0", "0.00", '"0"', "0.001", "1e2", "null", "true", "[1]", "{}", '""']
)


@settings(max_examples=1_500)
@given(st.one_of(good, near, soup, special).map(str.encode))
@example(b"999999999999.99")
@example(b"1000000000000")
@example(b"999999999999.990")
@example(b'"200.00')
@example(b"007")
def test_an_amount_is_accepted_exactly_where_the_contract_says(raw: bytes) -> None:
    expected = what_the_contract_says(raw)
    if expected is None:
        with pytest.raises(InvalidAmount):
            amount_from_json(raw)
    else:
        amount = amount_from_json(raw)
        assert amount == expected
        assert amount.as_tuple().exponent == -2, "the same digits go out again"


@pytest.mark.parametrize("raw", [b"200", b"200.0", b"200.00", b'"200.00"', b'"200"'])
def test_the_spellings_of_two_hundred_are_one_amount(raw: bytes) -> None:
    assert str(amount_from_json(raw)) == "200.00"


@settings(max_examples=400)
@given(boards, amounts, currencies, currencies)
def test_a_conversion_pays_at_most_the_exact_amount_and_less_than_a_cent_below_what_the_rate_says(
    board: Rates, amount: Decimal, base: str, quote: str
) -> None:
    rate = board.rate(base, quote)
    exact_rate = Fraction(board.per_dollar[quote]) / Fraction(board.per_dollar[base])
    received = Fraction(convert(amount, rate))
    assert 0 <= exact_rate - Fraction(rate) < Fraction(1, 10**12), (
        "the rate itself favours nobody by more than its step"
    )
    assert received <= Fraction(amount) * exact_rate
    assert 0 <= Fraction(amount) * Fraction(rate) - received < Fraction(1, 100)


@settings(max_examples=400)
@given(boards, amounts, st.lists(currencies, min_size=1, max_size=5))
@example(
    rates_at(as_of=NOW, valid_until=NOW, KZT="501"),
    PAYMENT_MAX,
    ["KZT", "USD"],
)
@example(
    rates_at(as_of=NOW, valid_until=NOW, KZT="600"),
    PAYMENT_MAX,
    ["KZT", "USD"],
)
def test_money_sent_round_through_any_currencies_never_comes_back_as_more(
    board: Rates, amount: Decimal, stops: list[str]
) -> None:
    held = amount
    for base, quote in zip(stops, [*stops[1:], stops[0]], strict=True):
        held = convert(held, board.rate(base, quote))
    assert held <= amount


@given(boards, currencies, amounts)
def test_a_currency_is_worth_itself(board: Rates, currency: str, amount: Decimal) -> None:
    assert board.rate(currency, currency) == 1
    assert convert(amount, board.rate(currency, currency)) == amount
