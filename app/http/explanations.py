"""What msgspec finds wrong with a body or a parameter, in words for people."""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

# PostgreSQL can't store NUL, and no name or code has a use for the other control characters. The end is not `$`,
# which would let a line feed through, nor `\Z`, which the OpenAPI document's readers don't know.
NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])"
NOT_BLANK = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*(?![\s\S])"

# What to say instead of showing people a regular expression.
_PATTERNS = {
    NO_CONTROLS: "Expected text without control characters.",
    NOT_BLANK: "Expected text that is not blank and has no control characters.",
}
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "uuid": "an id",
}

_AT = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_KIND = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<given>[^`]*)`")
_BOUND = re.compile(r"Expected `(?P<kind>str|array|int)` (?:of length )?(?P<bound>[<>])= (?P<count>\d+)")
_COUNTED = {"str": " characters", "array": " in the list", "int": ""}


def explained(text: str, field: str = "", wanted: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """
    The field that msgspec's sentence is about, and what to say of it.

    `field` is its name where msgspec was given one value and can't tell; `wanted` are the types of fields.
    """
    if at := _AT.search(text):
        text, field = text[: at.start()], at["field"]
    if missing := _MISSING.fullmatch(text):
        return f"{field}.{missing['field']}".lstrip("."), "It is missing."
    if kind := _KIND.fullmatch(text):
        return field, f"Expected {_kinds(kind['wanted'])}, not {_kinds(kind['given'])}."
    if bound := _BOUND.fullmatch(text):
        most = "at most" if bound["bound"] == "<" else "at least"
        return field, f"Expected {most} {bound['count']}{_COUNTED[bound['kind']]}."
    if text.startswith("Invalid enum value") and (choices := _choices((wanted or {}).get(field))):
        return field, f"Expected one of {', '.join(choices)}."
    if text == "Invalid UUID":
        return field, "Expected an id such as 3f1c1f0e-5a0b-4c57-9a56-5d1d3a4d7c11."
    for pattern, sentence in _PATTERNS.items():
        if repr(pattern)[1:-1] in text:
            return field, sentence
    return field, text


def _kinds(text: str) -> str:
    return " or ".join(_KINDS.get(kind, kind) for kind in text.split(" | "))


def _choices(annotation: Any) -> list[str]:
    """The texts that a `Literal` somewhere in the annotation lists."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]
