"""Exceptions in logs: where they came from and what they are, without the values that were at hand."""

import linecache
import re
import sys
from typing import Any

from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

# Of a deeper stack the first and the last: as a rule a line then fits into what a pipe takes in one piece.
FRAMES_MAX = 20

_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"

# A constraint that refuses a row makes PostgreSQL quote all of it, with a password's hash where it has one; and the
# driver quotes an argument that it can't convert.
_DETAIL = re.compile(r"\nDETAIL:.*", re.DOTALL)
_ARGUMENT = re.compile(r"(invalid input for query argument \$\d+):.*", re.DOTALL)

# Local variables are what a password is in while it is checked.
_described = ExceptionDictTransformer(show_locals=False, max_frames=FRAMES_MAX)

Stack = dict[str, Any]


def exception_as_fields(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """A structlog processor: `exc_info` becomes `exception`, a list that begins with what was raised last."""
    if stacks := _stacks(line):
        line["exception"] = stacks
    return line


def exception_as_text(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """A structlog processor: `exc_info` becomes `exception`, a text as Python writes it."""
    if stacks := _stacks(line):
        line["exception"] = "\n".join(_told(stacks))
    return line


def _stacks(line: EventDict) -> list[Stack]:
    error = line.pop("exc_info", None)
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    elif error and not isinstance(error, tuple):
        error = sys.exc_info()
    return [_quiet(stack) for stack in _described(error)] if error and error[0] else []


def _quiet(stack: Stack) -> Stack:
    """The same without what is empty, and without what the database quotes."""
    kept = {name: value for name, value in stack.items() if value}
    kept["exc_value"] = _ARGUMENT.sub(r"\1", _DETAIL.sub("", stack["exc_value"]))
    if inner := stack["exceptions"]:
        kept["exceptions"] = [[_quiet(each) for each in stacks] for stacks in inner]
    return kept


def _told(stacks: list[Stack], indent: str = "") -> list[str]:
    lines = []
    for position, stack in reversed(list(enumerate(stacks))):
        lines.append(f"{indent}Traceback (most recent call last):")
        for frame in stack.get("frames", []):
            lines.append(f'{indent}  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}')
            if code := linecache.getline(frame["filename"], frame["lineno"]).strip():
                lines.append(f"{indent}    {code}")
        lines.append(f"{indent}{stack['exc_type']}: {stack['exc_value']}")
        for inner in stack.get("exceptions", []):
            lines += _told(inner, f"{indent}  | ")
        if position:
            lines += ["", f"{indent}{_CAUSE if stack.get('is_cause') else _CONTEXT}", ""]
    return lines
