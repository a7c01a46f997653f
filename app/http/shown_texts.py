"""Looks through a body for text that others may not be shown. Every member counts, but those that say otherwise."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.inspect import (
    AnyType,
    CollectionType,
    DictType,
    ListType,
    Metadata,
    StrType,
    StructType,
    TupleType,
    Type,
    UnionType,
)

from app.http.explanations import NOT_BLANK
from app.http.plain_text import fault_of, shows

NOT_SHOWN: Final = {"not shown": True}
"""The `Meta.extra` of a text that nobody else reads as it is: a secret, or what is parsed into a form of its own."""

Faults = Sequence[tuple[str, str]]
Look = Callable[[Any], Faults]
"""Where in a value something is wrong, and what; nothing is in a value of another type."""


def look_through(info: Type) -> Look | None:
    """What finds the texts in a decoded value that may not be shown, made once for its type; None if it has none."""
    match info:
        case StrType():
            return _at_text(not_blank=info.pattern == NOT_BLANK)
        case Metadata():
            return None if info.extra == NOT_SHOWN else look_through(info.type)
        case ListType():
            item = look_through(info.item_type)
            return item and _at_list(item)
        case StructType():
            looks = ((each.name, each.encode_name, look_through(each.type)) for each in info.fields)
            return _at_members([(attribute, f".{name}", look) for attribute, name, look in looks if look])
        case UnionType():
            kinds = [look for each in info.types if (look := look_through(each))]
            assert len(kinds) < 2, "one of its kinds would not be looked at"
            return kinds[0] if kinds else None
        case CollectionType() | DictType() | TupleType() | AnyType():
            raise TypeError(f"nobody looks for text in {info}")
    return None


def _at_text(*, not_blank: bool) -> Look:
    def look(text: Any) -> Faults:
        if not isinstance(text, str):
            return ()
        if fault := fault_of(text):
            return (("", fault),)
        return (("", "Expected text that is not blank."),) if not_blank and not shows(text) else ()

    return look


def _at_list(item: Look) -> Look:
    def look(values: Any) -> Faults:
        if not isinstance(values, list):
            return ()
        return [(f"[{at}]{place}", fault) for at, value in enumerate(values) for place, fault in item(value)]

    return look


def _at_members(members: list[tuple[str, str, Look]]) -> Look:
    def look(value: Any) -> Faults:
        if not isinstance(value, Struct):
            return ()
        found: list[tuple[str, str]] = []
        for attribute, name, member in members:
            if faults := member(getattr(value, attribute)):
                found += [(name + place, fault) for place, fault in faults]
        return found

    return look
