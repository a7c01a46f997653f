"""What people are told: complete, with the code in the text only."""

import re

import pytest

from tasks.messages.sealing import NotOurs, Seal
from tasks.messages.templates import UnknownTemplate, write

BLOCKED = {"wallet_number": "4400000017", "amount": "0.33", "currency": "EUR"}


@pytest.mark.parametrize("template", ["registration_code", "password_code", "reset_code"])
def test_a_code_stands_in_the_text_and_the_sms_and_is_the_only_long_number(template: str) -> None:
    letter = write(template, {}, code="482913")
    assert re.findall(r"\d{4,}", letter.text) == ["482913"]
    assert re.findall(r"\d{4,}", letter.short) == ["482913"]
    assert "482913" not in letter.subject
    assert len(letter.short) <= 160


@pytest.mark.parametrize("template", ["welcome", "registration_attempt", "password_changed"])
def test_a_notice_needs_no_facts(template: str) -> None:
    letter = write(template, {})
    assert letter.subject
    assert letter.text.startswith("Hello,\n\n")


def test_a_blocked_wallet_is_named_with_the_fee_it_owes() -> None:
    letter = write("wallet_blocked", BLOCKED)
    assert "4400000017" in letter.subject
    assert "0.33 EUR" in letter.text


@pytest.mark.parametrize(("template", "params"), [("farewell", {}), ("wallet_blocked", {}), ("password_code", {})])
def test_what_can_not_be_written_is_said_not_guessed(template: str, params: dict[str, str]) -> None:
    with pytest.raises(UnknownTemplate):
        write(template, params)


def test_a_sealed_code_shows_nothing_and_opens_with_the_same_secret_only() -> None:
    sealed = Seal("a secret").close("482913")
    assert b"482913" not in sealed
    assert Seal("a secret").open(sealed) == "482913"
    with pytest.raises(NotOurs):
        Seal("another secret").open(sealed)
    with pytest.raises(NotOurs):
        Seal("a secret").open(sealed[:-4] + b"AAAA")
