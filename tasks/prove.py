"""
The audit in a process of its own.

It reads the whole ledger, which on a big one takes far longer than any statement of the worker's may.
"""

import asyncio
import os
import sys
from contextlib import suppress

import msgspec

from db.audit import AuditReport, audit
from db.engine import Pool, connection_pool, engine

STATEMENT_SECONDS = 6 * 3600


class AuditFailed(Exception):
    """The audit could not be carried out, which says nothing about the ledger."""


async def prove() -> AuditReport:
    """
    The result of an audit of the database that this process uses.

    Raises:
        AuditFailed: there is no result; the sentence is the last line of what the process said.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        env={**os.environ, "DATABASE_URL": engine().config["dsn"], "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        result, complaint = await child.communicate()
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        raise AuditFailed((complaint.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1])
    return msgspec.json.decode(result, type=AuditReport)


async def _prove_here() -> bytes:
    async with connection_pool(Pool(min_size=1, max_size=1, statement_timeout_seconds=STATEMENT_SECONDS)):
        return msgspec.json.encode(await audit())


if __name__ == "__main__":
    sys.stdout.buffer.write(asyncio.run(_prove_here()))
