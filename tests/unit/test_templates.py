"""What people are told: complete, with the code in the text only."""

import re

import pytest

from tasks.messages.sealing import NotOurs, Seal
from tasks.messages.templates import UnknownTemplate, write

BLOCKED = {"wallet_number": "4400000017", "amount": "0.33", "currency": "EUR"}


# GSM 03.38: with any other character an SMS holds 70 characters, not 160.
GSM = re.compile(r"[A-Za-z0-9 :,.'!?@+-]{1,160}")


@pytest.mark.parametrize("template", ["registration_code", "password_code", "reset_code"])
def test_a_code_stands_in_the_text_and_is_the_only_long_number(template: str) -> None:
    letter = write(template, {}, code="482913")
    assert re.findall(r"\d{4,}", letter.text) == ["482913"]
    assert "482913" not in letter.subject


def test_each_code_of_a_registration_says_what_it_is_for() -> None:
    letter = write("registration_code", {"second_code": "sms"}, code="482913")
    assert "the code for your email address is 482913." in letter.text
    assert "Another code comes by SMS to your phone. You need both." in letter.text
    assert "SMS" not in write("registration_code", {}, code="482913").text
    assert "the code for your phone is 482913," in letter.short
    assert "email" not in letter.short
    assert re.findall(r"\d{4,}", letter.short) == ["482913"]
    assert GSM.fullmatch(letter.short)


@pytest.mark.parametrize("template", ["password_attempt", "reset_attempt"])
def test_a_notice_by_sms_is_one_sms_without_a_code(template: str) -> None:
    letter = write(template, {})
    assert letter.short.startswith("Wallet: someone ")
    assert GSM.fullmatch(letter.short)
    assert not re.search(r"\d", letter.short)


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
