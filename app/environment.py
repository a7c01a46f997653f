"""The variables a command sees: its own, then those of `.env`, then the addresses of a running `wallet serve`."""

import os
from pathlib import Path

from dotenv.parser import parse_stream

from db.errors import ReadableError


class SettingsError(ReadableError):
    """The environment is wrong; the message names the variable and shows nothing confidential."""


def complete_environment(folder: Path = Path(), *, with_running: bool = True) -> None:
    """
    Add to `os.environ` what `.env` in `folder` sets, and what `.wallet/env` does where `with_running`.

    Call it before anything imports `piccolo_conf`, which reads DATABASE_URL when it is imported.

    Raises:
        SettingsError: a line of a file can't be read.
    """
    for file in (folder / ".env", folder / ".wallet/env")[: 2 if with_running else 1]:
        for name, value in _read(file).items():
            os.environ.setdefault(name, value)


def _read(file: Path) -> dict[str, str]:
    """The variables of one file, as they stand there: a `$` in a password is a `$`."""
    if not file.is_file():
        return {}
    values: dict[str, str] = {}
    with file.open() as lines:
        for binding in parse_stream(lines):
            if binding.error or (binding.key and binding.value is None):
                raise SettingsError(f"Line {binding.original.line} of {file} is not of the form NAME=value.")
            if binding.key:
                values[binding.key] = binding.value or ""
    return values
