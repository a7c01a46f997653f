"""Room in a table of counts that is full."""

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from app.limits.requests import Uncountable

Key = TypeVar("Key")
Value = TypeVar("Value")

_LOOKED_AT = 100  # so many of a full table, for one to make room


def make_room(table: dict[Key, Value], may_go: Callable[[Value], bool]) -> Value:
    """
    Take the oldest that may go out of the table, in which the oldest come first.

    Raises:
        Uncountable: of a hundred that were looked at, none may go. They are behind the others now.
    """
    for key, oldest in list(islice(table.items(), _LOOKED_AT)):
        del table[key]
        if may_go(oldest):
            return oldest
        table[key] = oldest  # or the next one who needs room looks at it again
    raise Uncountable()
