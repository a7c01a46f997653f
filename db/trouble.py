"""What keeps a database from serving though it answers: in words, and remembered for whoever asks whether it serves."""

from socket import gaierror
from ssl import SSLCertVerificationError, SSLError
from time import monotonic

from asyncpg.exceptions import (
    CannotConnectNowError,
    DiskFullError,
    InsufficientPrivilegeError,
    InsufficientResourcesError,
    InvalidAuthorizationSpecificationError,
    InvalidCatalogNameError,
    InvalidSchemaNameError,
    LockNotAvailableError,
    ObjectNotInPrerequisiteStateError,
    OutOfMemoryError,
    PostgresConnectionError,
    PostgresSystemError,
    ReadOnlySQLTransactionError,
    TargetServerAttributeNotMatched,
    TooManyConnectionsError,
    TransactionRollbackError,
    UndefinedTableError,
)

from db.errors import ESCAPING

# A full disk refuses the write that needs a new page, and no question tells which one that will be. So what a write has
# been refused for counts for so long, unless a later one is committed.
REMEMBERED_SECONDS = 10.0

SILENT = "It does not answer."

# The narrower ones first.
_WORDS: list[tuple[type[Exception], str]] = [
    (ReadOnlySQLTransactionError, "It is read-only."),
    (DiskFullError, "Its disk is full."),
    (OutOfMemoryError, "It has no memory left."),
    (TooManyConnectionsError, "It has no connection left for us."),
    (InsufficientResourcesError, "It has reached a limit of its configuration."),
    (PostgresSystemError, "It can't read or write its files."),
    (InvalidAuthorizationSpecificationError, "It refuses our login."),
    (InvalidCatalogNameError, "It has no database of this name."),
    (UndefinedTableError, "It lacks our tables: run `wallet migrate`, or look at its search_path."),
    (InvalidSchemaNameError, "It lacks our tables: run `wallet migrate`, or look at its search_path."),
    (InsufficientPrivilegeError, "It does not let us use our tables: look at who owns them."),
    (LockNotAvailableError, "Somebody else has locked what is needed."),
    (ObjectNotInPrerequisiteStateError, "It allows no connections to this database."),
    (TransactionRollbackError, "It rolls transactions back."),
    (CannotConnectNowError, "It is starting or stopping."),
    (TargetServerAttributeNotMatched, "No host is what target_session_attrs asks for, as during a failover."),
    (gaierror, f"Its host can't be found: look at DATABASE_URL, and {ESCAPING}."),
    (SSLCertVerificationError, "Its certificate is not trusted."),
    (SSLError, "The TLS connection to it fails."),
]

_last: tuple[float, str] | None = None


class NotLetIn(PostgresConnectionError):  # type: ignore[misc]  # asyncpg has no types
    """
    A connection was refused for a reason that would be a fault of ours in a statement, such as a missing privilege.

    Nobody can be served before that is mended, and nobody has asked for anything wrong.
    """


def in_words(error: BaseException) -> str:
    """What ails the database, as a sentence without its address."""
    if isinstance(error, NotLetIn):
        return "It refuses our connection."
    return next((words for kind, words in _WORDS if isinstance(error, kind)), SILENT)


def in_detail(error: BaseException) -> str:
    """What ails it, for a log: with the name of the error where nothing has a better one."""
    words = in_words(error)
    return f"{words.rstrip('.')} ({type(error).__name__})." if words == SILENT else words


def remember(error: BaseException) -> None:
    """A statement was refused for something that concerns the whole database."""
    global _last
    _last = monotonic(), in_words(error)


def forget() -> bool:
    """A transaction was committed: whatever it was is over. Returns whether there was anything."""
    global _last
    was, _last = _last, None
    return was is not None


def of_late() -> str | None:
    """Why a statement was refused within the last seconds, unless a transaction has been committed since."""
    if _last and monotonic() - _last[0] < REMEMBERED_SECONDS:
        return _last[1]
    return None
