"""What PostgreSQL has to be before anything is asked of it: at a readable address, new enough, and a session ours."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLCertVerificationError
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg import Connection
from asyncpg.exceptions import (
    CantChangeRuntimeParamError,
    ClientConfigurationError,
    InvalidParameterValueError,
    PostgresConnectionError,
    UndefinedObjectError,
)

from db.errors import ReadableError

# What was tried with which version: docs/operations.md.
POSTGRES_MIN = 13
# Other clients of a pooler may take the connection that is looked for, but hardly each time.
ATTEMPTS = 3

_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


class Unsuitable(ReadableError):
    """What DATABASE_URL names can't be worked with; the message says why, and shows nothing that is confidential."""


async def check_postgres(database_url: str, seconds: float) -> None:
    """
    Look at the server, and at what stands before it, over two connections that are closed afterwards.

    Raises:
        Unsuitable: the address has a part that can't be right, the server is too old, or a pooler hands its connections
            from transaction to transaction. To wait would help with none of it.
        UNAVAILABLE: it can't be reached, or did not answer within so many seconds.
    """
    _check_address(database_url)
    async with _connected(database_url, seconds) as first:
        version = first.get_server_version().major
        if version < POSTGRES_MIN:
            raise Unsuitable(f"PostgreSQL {version} at DATABASE_URL is too old: use {POSTGRES_MIN} or newer.")
        async with _connected(database_url, seconds) as second:
            for _ in range(ATTEMPTS):
                if await _share(first, second):
                    raise Unsuitable(
                        "DATABASE_URL leads to a pooler that gives each transaction another connection: name PostgreSQL"
                        " itself, or a pool with pool_mode=session."
                    )


async def _share(first: Connection, second: Connection) -> bool:
    """
    Whether these two have had the same session of the server, or one of them has had two, or can't have a transaction.

    A pooler that lends connections for a transaction lends the one that came back last, or the one that came back
    first. The former gives what `first` had to `second`; the latter gives `first` another one if there is one.
    """
    try:
        own = {await _pid(first), await _pid(first)}
    except PostgresConnectionError as error:
        if "statement pooling" in str(error):
            return True
        raise
    async with _transaction_of(second) as other:
        if other in own:
            return True
        own.add(await _pid(first))
    return len(own) > 1


async def _pid(connection: Connection) -> int:
    async with _transaction_of(connection) as pid:
        return pid


@asynccontextmanager
async def _transaction_of(connection: Connection) -> AsyncIterator[int]:
    """The session that has the transaction in which the block runs; it is rolled back, since it has done nothing."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield await connection.fetchval("SELECT pg_backend_pid()")
    finally:
        await transaction.rollback()


@asynccontextmanager
async def _connected(database_url: str, seconds: float) -> AsyncIterator[Connection]:
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=seconds,
            command_timeout=seconds,
            statement_cache_size=0,  # a named statement may be somebody else's behind a pooler
            server_settings={"application_name": "wallet"},
        )
    except ClientConfigurationError as error:
        raise Unsuitable(f"DATABASE_URL: {_in_one_line(error)}.") from None
    except (UndefinedObjectError, InvalidParameterValueError, CantChangeRuntimeParamError) as error:
        raise Unsuitable(
            f"DATABASE_URL has a parameter that PostgreSQL does not take: {_in_one_line(error)}."
        ) from None
    except PostgresConnectionError as error:
        if "startup parameter" not in str(error):
            raise
        raise Unsuitable(
            f"DATABASE_URL has a parameter that the pooler does not take: {_in_one_line(error)}."
        ) from None
    except SSLCertVerificationError as error:
        raise Unsuitable(f"PostgreSQL's certificate at DATABASE_URL is not trusted: {error.verify_message}.") from None
    except ConnectionError as error:
        if "rejected SSL upgrade" not in str(error):
            raise
        raise Unsuitable("DATABASE_URL asks for TLS (sslmode), and the server there has none.") from None
    try:
        yield connection
    finally:
        await connection.close(timeout=seconds)


def _check_address(database_url: str) -> None:
    """What the driver would tell by an error that may quote a password, or that looks like a server that is away."""
    try:
        parts = urlsplit(database_url)
        parameters = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise Unsuitable("DATABASE_URL is not a URL (its value is not shown here).") from None
    hosts = re.sub(r"\[[^\]]*\]", "", parts.netloc.rpartition("@")[2])
    ports = [host.partition(":")[2] for host in hosts.split(",")] + ",".join(parameters.get("port", [])).split(",")
    for port in ports:
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise Unsuitable(
                "DATABASE_URL has a port that is no number from 1 to 65535; write special characters of a password as"
                " %23 (#), %2F (/), %3A (:), %40 (@) and so on."
            )
    for name in _FILES:
        for file in parameters.get(name, []):
            if file and not os.access(file, os.R_OK):
                raise Unsuitable(f"DATABASE_URL: {name} names a file that can't be read: {file}.")


def _in_one_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")
