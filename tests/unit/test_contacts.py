"""Email addresses and phone numbers have one form."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.problems import ValidationFailed
from app.people.contacts import claimed_phone_number, email_address, phone_number


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
