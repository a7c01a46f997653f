"""docs/security.md names tests as its evidence: each of them exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def names_in(file: Path) -> set[str]:
    """The names of the tests in a file, whether they stand in a class or not."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, functions)}


def test_every_test_that_the_page_names_exists() -> None:
    named = set(NAMED.findall((ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 50
    for path, test in sorted(named):
        file = ROOT / path
        assert file.is_file(), f"docs/security.md names {path}, which does not exist"
        assert test.startswith("test_"), f"docs/security.md names {test} of {path}, which is no test"
        assert test in names_in(file), f"docs/security.md names {path}::{test}, which does not exist"
