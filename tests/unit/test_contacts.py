"""Email addresses and phone numbers have one form."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.problems import ValidationFailed
from app.people import contacts
from app.people.contacts import claimed_phone_number, email_address
from app.people.phone_types import TYPES, USUAL, types_from

phone_number = partial(contacts.phone_number, types=types_from(USUAL))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("ANN+wallet@example.com", "ann+wallet@example.com"),
        ("ann@bücher.example.com", "ann@xn--bcher-kva.example.com"),
    ],
)
def test_an_address_is_kept_in_lower_case(text: str, expected: str) -> None:
    assert email_address(text, development=False) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "ann@",
        "@example.com",
        "ann@localhost",
        "ann@example.invalid",
        "a b@example.com",
        "ann@example.com\n",
        "änn@example.com",
        "ann@[127.0.0.1]",
        "ann\x00@example.com",
        "Ann <ann@example.com>",
        "a" * 65 + "@example.com",
    ],
)
def test_what_no_mail_reaches_is_no_address(text: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        email_address(text, development=True)
    assert [error.field for error in refused.value.errors] == ["email"]


def test_reserved_test_domains_are_for_development() -> None:
    assert email_address("ann@wallet.test", development=True) == "ann@wallet.test"
    with pytest.raises(ValidationFailed):
        email_address("ann@wallet.test", development=False)


@pytest.mark.parametrize(
    "text", ["+77011234567", "87011234567", "7011234567", "+7 (701) 123-45-67", "tel:+77011234567"]
)
def test_a_phone_number_has_one_form(text: str) -> None:
    assert phone_number(text, region="KZ") == claimed_phone_number(text, region="KZ") == "+77011234567"


def test_a_local_number_is_read_as_of_the_region() -> None:
    assert phone_number("030 901820", region="DE") == "+4930901820"


@pytest.mark.parametrize(
    "text", ["", "abc", "+", "7" * 41, "+7701123456\x007", "+77011234567;ext=5", "+77011234567x12"]
)
def test_what_is_no_phone_number(text: str) -> None:
    for read in (phone_number, claimed_phone_number):
        with pytest.raises(ValidationFailed) as refused:
            read(text, region="KZ")
        assert [error.field for error in refused.value.errors] == ["phone_number"]


def test_a_number_that_nobody_can_have_is_merely_unknown_when_signing_in() -> None:
    with pytest.raises(ValidationFailed):
        phone_number("+70000000000", region="KZ")
    assert claimed_phone_number("+70000000000", region="KZ") == "+70000000000"


def examples() -> list[tuple[str, str]]:
    """A number of every type that libphonenumber knows for every country and for none, and the type's name."""
    names = {value: name.lower() for name, value in vars(phonenumbers.PhoneNumberType).items() if type(value) is int}
    of_countries = [
        (names[phonenumbers.number_type(number)], number)
        for country in phonenumbers.SUPPORTED_REGIONS
        for kind in names
        if (number := phonenumbers.example_number_for_type(country, kind))
    ]
    of_none = [
        ("worldwide", number)
        for code in phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS
        if (number := phonenumbers.example_number_for_non_geo_entity(code))
    ]
    e164 = phonenumbers.PhoneNumberFormat.E164
    return [(phonenumbers.format_number(number, e164), name) for name, number in of_countries + of_none]


@pytest.mark.parametrize("text", ["+979123456789", "+19002345678", "+449098790000", "+78091234567", "+881621234567"])
def test_what_is_dear_to_write_to_is_refused_and_may_be_signed_in_with(text: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        phone_number(text, region="KZ")
    ((error,)) = refused.value.errors
    assert error.field == "phone_number"
    assert "premium-rate" in error.message
    assert claimed_phone_number(text, region="KZ") == text


def test_a_type_registers_where_the_setting_has_it_and_only_there() -> None:
    tried = examples()
    assert {name for _, name in tried} >= {*TYPES} - {"worldwide"}
    for listed in (USUAL, "mobile", "premium_rate, VOIP", "worldwide", ",".join(TYPES), ""):
        types = types_from(listed)
        for text, name in tried:
            # Those of no country keep the types that no country has of its own.
            expected = (
                {name} if name != "worldwide" else {"worldwide", "premium_rate", "shared_cost", "toll_free", "uan"}
            )
            try:
                contacts.phone_number(text, region="KZ", types=types)
            except ValidationFailed:
                assert not expected <= types, (listed, text, name)
            else:
                assert expected & types, (listed, text, name)


@given(st.text(max_size=60))
def test_whatever_is_sent_is_read_or_refused(text: str) -> None:
    readers: list[Callable[[], str]] = [
        lambda: email_address(text, development=True),
        lambda: phone_number(text, region="KZ"),
        lambda: claimed_phone_number(text, region="KZ"),
    ]
    for read in readers:
        with suppress(ValidationFailed):
            assert read().isascii()
