"""Which characters a text may hold that others read."""

import sys
import unicodedata
from typing import Annotated

import pytest
from msgspec import Meta, Struct
from pydantic import ValidationError

from app.http.bodies import decode
from app.http.explanations import NOT_BLANK
from app.http.fields import PlainText, Unshown
from app.http.plain_text import fault_of, shows
from app.http.problems import ValidationFailed
from app.staff import money_forms, people_forms
from app.staff.forms import StaffForm
from tests.helpers.hidden_texts import BLANK, HIDDEN, HONEST

# Default_Ignorable_Code_Point, of Unicode's DerivedCoreProperties.txt.
IGNORABLE = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
WITHOUT_INK = {0x2800, 0xFFFC, 0x13441, 0x13442, 0x16FE4, 0x1D159}


def test_every_character_alone_is_refused_or_accepted_by_what_unicode_says_of_it() -> None:
    # Of the planes that Unicode has left empty, the ends.
    codes = [
        code
        for code in range(sys.maxunicode + 1)
        if not (0x40000 <= code < 0xE0000 or code >= 0xF0000) or code & 0xFFFF > 0xFF00
    ]
    refused = {code for code in codes if fault_of(chr(code))}
    ignorable = {code for first, last in IGNORABLE for code in range(first, last + 1)}
    categories = {
        code
        for code in codes
        if unicodedata.category(chr(code)) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
        or code & 0xFFFE == 0xFFFE
        or 0xFDD0 <= code <= 0xFDEF
    }
    # What an older Python does not know yet of Egyptian.
    assert refused - categories - ignorable - WITHOUT_INK <= set(range(0x13439, 0x13440))
    assert refused >= categories | ignorable | WITHOUT_INK


@pytest.mark.parametrize("text", HONEST)
def test_honest_texts_are_accepted_and_show_something(text: str) -> None:
    assert fault_of(text) is None
    assert fault_of(f"a {text}{text} b") is None
    assert shows(text)


def test_what_hides_is_refused_wherever_it_stands() -> None:
    for text in HIDDEN:
        for around in ("{}", "rent {}", "{} ", "Жалақы {} 👨‍👩‍👧", "👍🏽 {}"):
            assert fault_of(around.format(text)), ascii(text)


def test_what_shows_nothing_is_found() -> None:
    assert not [ascii(text) for text in (*BLANK, "", " ") if fault_of(text) or shows(text)]
    assert all(map(shows, ("a", " a", "\u0301a", "7", "\U0003fffd")))


def test_the_first_of_it_is_named_with_its_place() -> None:
    for text, found in (
        ("ab\u202ec\u200b", "U+202E at position 3"),
        ("👩🏽‍💻\U000e0041", "U+E0041 at position 5"),
        ("\x00", "U+0000 at position 1"),
        ("❤️👍\u200d", "U+200D at position 4"),
    ):
        message = "Expected text without control, invisible or direction-changing characters; found "
        assert fault_of(text) == f"{message}{found}."


def test_a_long_text_of_emoji_is_looked_through_once() -> None:
    assert fault_of("👨‍👩‍👧" * 100_000) is None
    assert fault_of("👨‍👩‍👧" * 100_000 + "\u200d") is not None
    assert fault_of("👨\u200d" * 100_000) is not None


def kinds(model: type[StaffForm]) -> list[type[StaffForm]]:
    return [each for kind in model.__subclasses__() for each in (kind, *kinds(kind))]


FORMS = kinds(StaffForm)
assert {money_forms.AdjustForm, people_forms.BlockForm} < {*FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_staffs_takes_what_hides_before_spaces_are_taken_off(form: type[StaffForm]) -> None:
    for name in form.model_fields:
        for text in (*HIDDEN, *BLANK):
            with pytest.raises(ValidationError) as refused:
                form.model_validate({name: text})
            assert (name, "value_error") in [(error["loc"][0], error["type"]) for error in refused.value.errors()]


class Item(Struct):
    """A struct within."""

    note: PlainText | None = None
    secret: Unshown = ""


class Body(Struct):
    """One member for each way in which a text can be in a body."""

    name: Annotated[str, Meta(pattern=NOT_BLANK)] = "name"
    plain: str = ""
    listed: list[str] = []
    items: list[Item] | None = None
    item: Item | None = None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"name":"a\u202e"}', ["name"]),
        ('{"name":"a\\u202e"}', ["name"]),
        ('{"name":"\u3000"}', ["name"]),
        ('{"plain":"\\n"}', ["plain"]),
        ('{"plain":"\x7f"}', ["plain"]),
        ('{"listed":["a","b\u200b"]}', ["listed[1]"]),
        (
            '{"items":[{},{"note":"\u200b"},{"note":"\\u2066"}],"item":{"note":"\u2800"}}',
            ["items[1].note", "items[2].note", "item.note"],
        ),
        ('{"items":[{"secret":"\u200b"}],"item":{"secret":"\u202e"}}', []),
        ('{"name":"Ünï","plain":"\u3000","items":null,"item":{"note":null}}', []),
    ],
)
def test_every_text_of_a_body_is_looked_at_but_those_that_nobody_reads(body: str, fields: list[str]) -> None:
    if not fields:
        assert decode(body.encode(), Body)
        return
    with pytest.raises(ValidationFailed) as refused:
        decode(body.encode(), Body)
    assert [error.field for error in refused.value.errors] == fields
    assert str(refused.value).startswith(f"{fields[0]}: ")
