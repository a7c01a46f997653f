"""`.env.example`: every setting with its default and what it means, out of the structs themselves."""

import ast
import inspect
from typing import Any

from msgspec import Struct

from app.settings import variables
from tasks.settings import DEVELOPMENT_SECRET

HEAD = """\
# Every setting with its default. Copy what you change to `.env`, or set it in the environment, which wins.
# Written by `python -m app.commands.env_example`; a test keeps it true.
"""


def env_example() -> str:
    """The text of `.env.example`."""
    blocks = [HEAD]
    previous: type[Struct] | None = None
    for name, struct, field in variables():
        if struct is not previous:
            blocks.append(f"\n# --- {_first_line(struct)}\n")
            previous = struct
        if meaning := _meanings(struct).get(field.name):
            blocks.append(f"# {meaning}\n")
        blocks.append(f"# {name}={_text(field.default)}\n")
    return "".join(blocks)


def _first_line(struct: type[Struct]) -> str:
    return (inspect.getdoc(struct) or struct.__name__).splitlines()[0]


def _text(default: Any) -> str:
    if default == DEVELOPMENT_SECRET:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if " " in str(default) else str(default)


def _meanings(struct: type[Struct]) -> dict[str, str]:
    """What is written below a field as a string, or behind it as a comment, in the struct or where it inherits from."""
    inherited: dict[str, str] = {}
    for base in struct.__bases__:
        if base is not Struct and issubclass(base, Struct):
            inherited |= _meanings(base)
    return inherited | _own_meanings(struct)


def _own_meanings(struct: type[Struct]) -> dict[str, str]:
    source = inspect.getsource(struct)
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    meanings: dict[str, str] = {}
    for statement, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        comment = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset :].partition("#")[2]
        match following:
            case ast.Expr(value=ast.Constant(value=str(text))):
                meanings[statement.target.id] = " ".join(text.split())
            case _ if comment:
                meanings[statement.target.id] = comment.strip()
    return meanings


if __name__ == "__main__":
    print(env_example(), end="")
