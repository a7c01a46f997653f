"""Databases for tests that make somebody wait."""

from collections.abc import AsyncIterator

import pytest

from db.engine import Pool, connection_pool
from tests.helpers.postgres import assert_audit


@pytest.fixture
async def patient_database(database_url: str) -> AsyncIterator[str]:
    """As `database`, but whoever waits for a row waits until it is free: a slow machine changes no test's outcome."""
    async with connection_pool(Pool(lock_timeout_seconds=60, statement_timeout_seconds=60)):
        yield database_url
        await assert_audit()
