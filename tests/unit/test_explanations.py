"""What is wrong with a body, in words for people."""

from typing import Annotated, Literal
from uuid import UUID

import pytest
from msgspec import Meta, Struct

from app.http.bodies import decode
from app.http.explanations import NOT_BLANK
from app.http.fields import PlainText
from app.http.problems import ValidationFailed


class Part(Struct):
    """Something inside the body."""

    amount: int


class Body(Struct, kw_only=True):
    """One field for each kind of mistake."""

    name: Annotated[str, Meta(min_length=2, max_length=4, pattern=NOT_BLANK)] = "name"
    text: PlainText = ""
    id: UUID | None = None
    currency: Literal["KZT", "EUR"] | None = None
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    yes: bool = True
    parts: Annotated[list[Part], Meta(max_length=1)] = []
    needed: str


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("{}", "needed", "It is missing."),
        ('{"parts":[{}]}', "parts[0].amount", "It is missing."),
        ("[]", "", "Expected an object, not a list."),
        ('{"needed":1}', "needed", "Expected text, not a whole number."),
        ('{"needed":null}', "needed", "Expected text, not null."),
        ('{"needed":1.5}', "needed", "Expected text, not a number."),
        ('{"id":1}', "id", "Expected an id or null, not a whole number."),
        ('{"id":"1"}', "id", "Expected an id such as 3f1c1f0e-5a0b-4c57-9a56-5d1d3a4d7c11."),
        ('{"currency":"GBP"}', "currency", "Expected one of KZT, EUR."),
        ('{"count":0}', "count", "Expected at least 1."),
        ('{"count":10}', "count", "Expected at most 9."),
        ('{"yes":"no"}', "yes", "Expected true or false, not text."),
        ('{"name":"n"}', "name", "Expected at least 2 characters."),
        ('{"name":"names"}', "name", "Expected at most 4 characters."),
        ('{"name":"  "}', "name", "Expected text that is not blank and has no control characters."),
        ('{"text":"\\n"}', "text", "Expected text without control characters."),
        ('{"parts":[{"amount":1},{"amount":1}]}', "parts", "Expected at most 1 in the list."),
        ('{"parts":{}}', "parts", "Expected a list, not an object."),
    ],
)
def test_the_field_is_named_and_what_is_wanted_of_it(body: str, field: str, message: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        decode(body.encode(), Body)
    (error,) = refused.value.errors
    assert (error.field, error.message) == (field, message)
    assert str(refused.value) == f"{field or 'body'}: {message}"


def test_what_is_right_passes() -> None:
    assert decode(b'{"needed":"this"}', Body).needed == "this"
