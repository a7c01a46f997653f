"""What went wrong with a command, in one sentence: for everything that whoever gave it can mend."""

from ssl import SSLError

from asyncpg.exceptions import (
    InsufficientPrivilegeError,
    InvalidAuthorizationSpecificationError,
    InvalidCatalogNameError,
    TargetServerAttributeNotMatched,
    UndefinedColumnError,
    UndefinedTableError,
)
from redis.exceptions import RedisError, ResponseError

from actors.engine.redis_client import redis_fault
from actors.refusals import DatabaseUnavailable
from db.engine import UNAVAILABLE
from db.errors import ReadableError
from db.trouble import SILENT, NotLetIn, in_words, of_late

# A wrong password, no such database, too few rights.
_NOT_LET_IN = (NotLetIn, InvalidAuthorizationSpecificationError, InvalidCatalogNameError, InsufficientPrivilegeError)
_NOT_MIGRATED = (UndefinedTableError, UndefinedColumnError)


def sentence(error: BaseException) -> str | None:  # noqa: C901 - a table of errors, row after row
    """The sentence, or None for a fault of the program, which deserves its traceback."""
    if isinstance(error, BaseExceptionGroup):
        return sentence(error.exceptions[0])
    if isinstance(error, ReadableError):
        return str(error)
    if isinstance(error, DatabaseUnavailable):
        return f"PostgreSQL can't serve at DATABASE_URL. {of_late() or error.title} What was done before stays done."
    if isinstance(error, ResponseError):
        return f"Redis at REDIS_URL refuses what was asked of it ({error})."
    if isinstance(error, RedisError):
        fault = redis_fault(error)
        if fault.startswith("does not answer"):
            return f"Redis does not answer at REDIS_URL ({error})."
        return f"Redis at REDIS_URL {fault}."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, _NOT_LET_IN):
        return f"PostgreSQL does not let us in at DATABASE_URL ({error})."
    if isinstance(error, _NOT_MIGRATED):
        return f"The database schema does not match this version ({error}). Run `wallet migrate`."
    if isinstance(error, SSLError):
        return f"The TLS connection to PostgreSQL at DATABASE_URL fails ({error})."
    if isinstance(error, UNAVAILABLE):
        words, told = in_words(error), str(error) or type(error).__name__
        if words == SILENT:
            return f"PostgreSQL does not answer at DATABASE_URL ({told})."
        if isinstance(error, TargetServerAttributeNotMatched):  # its own text shows an object
            return f"PostgreSQL can't serve at DATABASE_URL. {words}"
        return f"PostgreSQL can't serve at DATABASE_URL. {words} ({told})"
    return None
