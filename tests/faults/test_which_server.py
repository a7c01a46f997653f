"""The log names the server that an error is about, and says what ails it."""

import logging
from typing import Any

import pytest
from asyncpg.exceptions import (
    CannotConnectNowError,
    ConnectionDoesNotExistError,
    InterfaceError,
    InvalidAuthorizationSpecificationError,
    LockNotAvailableError,
    ReadOnlySQLTransactionError,
    TargetServerAttributeNotMatched,
)
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.requests import Request

from actors.engine.outages import of_either
from actors.engine.seldom import Seldom
from actors.engine.trouble import Trouble
from actors.refusals import DatabaseUnavailable
from app.staff import admin_app
from db import trouble
from db.transaction import CommitInDoubt
from tasks.rates.api import RatesSource
from tasks.rates.board import RateBoard
from tasks.worker import _OutagesOnce

TOLD: list[tuple[Exception, str]] = [
    (AuthenticationError("no"), "Redis does not let us in (AuthenticationError)"),
    (ReadOnlyError("no"), "Redis is a replica and takes no writes"),
    (RedisConnectionError("Error 111"), "Redis does not answer (ConnectionError)"),
    (RedisTimeoutError("late"), "Redis does not answer (TimeoutError)"),
    (LockNotAvailableError("no"), "PostgreSQL: somebody else has locked what is needed"),
    (ReadOnlySQLTransactionError("no"), "PostgreSQL is read-only"),
    (InvalidAuthorizationSpecificationError("no"), "PostgreSQL refuses our login"),
    (CannotConnectNowError("no"), "PostgreSQL is starting or stopping"),
    (TargetServerAttributeNotMatched("no"), "PostgreSQL: no host is what target_session_attrs asks for, as during a"),
    (ConnectionDoesNotExistError("no"), "PostgreSQL does not answer (ConnectionDoesNotExistError)"),
    (InterfaceError("no"), "PostgreSQL does not answer (InterfaceError)"),
    (DatabaseUnavailable(), "PostgreSQL does not answer (DatabaseUnavailable)"),
    (CommitInDoubt(), "PostgreSQL was lost during a COMMIT, which may have happened"),
    (ConnectionRefusedError("no"), "Redis or PostgreSQL does not answer (ConnectionRefusedError)"),
]


@pytest.mark.parametrize(("error", "told"), TOLD)
def test_an_outage_is_told_by_the_server_it_is_of(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    trouble.forget()
    assert told in of_either(error)
    record = logging.LogRecord("saq", logging.ERROR, "", 1, "Error processing job", (), (type(error), error, None))
    once = _OutagesOnce()
    assert once.filter(record)
    assert record.getMessage().startswith(f"The worker is held up: {told}")
    assert (record.levelname, record.levelno, record.exc_info) == ("WARNING", logging.WARNING, None)
    again = logging.LogRecord("saq", logging.ERROR, "", 1, "Another loop", (), (type(error), error, None))
    assert not once.filter(again)
    if not isinstance(error, DatabaseUnavailable | CommitInDoubt):  # those of jobs, not of loops
        Trouble(logging.getLogger("tasks.test"), "Looking").met(error)
        assert f"Looking failed: {told}" in caplog.text


def test_what_a_batch_was_refused_for_is_told_of_the_bank_too() -> None:
    trouble.remember(ReadOnlySQLTransactionError("no"))
    try:
        assert of_either(DatabaseUnavailable()) == "PostgreSQL is read-only"
    finally:
        trouble.forget()


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    error = ZeroDivisionError()
    record = logging.LogRecord("saq", logging.ERROR, "", 1, "Error", (), (type(error), error, None))
    assert _OutagesOnce().filter(record)
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "Error")
    assert record.exc_info


async def test_rates_that_cant_be_read_are_told_of_with_the_reason(
    database: Any, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    _user, at, after = redis_url.rpartition("@")
    redis = Redis.from_url(f"redis://:wrong@{after}")
    await RateBoard(redis, RatesSource(), False)._refresh()
    await redis.aclose()
    assert at, "a password"
    assert "Exchange rates can't be read: Redis does not let us in (AuthenticationError)." in caplog.text


async def test_the_admin_says_what_ails_the_database(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admin_app, "_no_database", Seldom(admin_app.log, "no database for the admin: %s"))
    answer = await admin_app._unavailable(Request({"type": "http"}), ReadOnlySQLTransactionError("no"))
    assert answer.status_code == 503
    assert "no database for the admin: PostgreSQL is read-only" in caplog.text
