"""Which server an error is about, and what ails it: a clause for the log."""

from asyncpg.exceptions import InterfaceError, InternalClientError, PostgresError
from redis.exceptions import RedisError

from actors.engine.redis_client import redis_fault
from actors.refusals import DatabaseUnavailable
from db.engine import UNAVAILABLE
from db.transaction import CommitInDoubt
from db.trouble import in_detail, of_late

# What the driver or the bank raises. An error of the operating system may be of either server.
_OF_POSTGRES = (PostgresError, InterfaceError, InternalClientError, DatabaseUnavailable, CommitInDoubt)


def of_redis(error: BaseException) -> str:
    """What went wrong with Redis; what is no outage goes by its name."""
    outage = isinstance(error, (RedisError, OSError))
    return f"Redis {redis_fault(error)}" if outage else f"Redis ({type(error).__name__})"


def of_postgres(error: BaseException) -> str:
    """What went wrong with PostgreSQL; what is no outage goes by its name."""
    if isinstance(error, CommitInDoubt):
        return "PostgreSQL was lost during a COMMIT, which may have happened"
    if isinstance(error, DatabaseUnavailable):  # the bank's word for what it has met
        return _of_postgres(of_late() or in_detail(error))
    return _of_postgres(in_detail(error)) if isinstance(error, UNAVAILABLE) else f"PostgreSQL ({type(error).__name__})"


def of_either(error: BaseException) -> str:
    """What went wrong with the one of which the error's class tells."""
    if isinstance(error, RedisError):
        return of_redis(error)
    if isinstance(error, _OF_POSTGRES):
        return of_postgres(error)
    return f"Redis or PostgreSQL does not answer ({type(error).__name__})"


def _of_postgres(sentence: str) -> str:
    if sentence.startswith("It "):
        return f"PostgreSQL {sentence[3:].rstrip('.')}"
    return f"PostgreSQL: {sentence[0].lower()}{sentence[1:].rstrip('.')}"
