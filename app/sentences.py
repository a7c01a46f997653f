"""What went wrong with a command, in one sentence: for everything that a user can mend."""

from asyncpg import PostgresError
from redis.exceptions import RedisError

from app.demo import DemoFailed
from app.environment import SettingsError
from app.find_person import PersonError
from app.listen import PortTaken
from app.staff import StaffError
from app.supervisor import GivenUp
from db.child import EmbeddedError
from db.engine import UNAVAILABLE
from db.migrate import MigrationError
from tasks.metrics import MetricsPortTaken

OURS = (
    SettingsError,
    DemoFailed,
    PortTaken,
    GivenUp,
    EmbeddedError,
    MigrationError,
    MetricsPortTaken,
    StaffError,
    PersonError,
)


def sentence(error: BaseException) -> str | None:
    """The sentence, or None for a fault of the program, which deserves its traceback."""
    if isinstance(error, BaseExceptionGroup):
        return sentence(error.exceptions[0])
    if isinstance(error, OURS):
        return str(error)
    if isinstance(error, RedisError):
        return f"Redis does not answer at REDIS_URL ({error})."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, (PostgresError, *UNAVAILABLE)):
        return f"PostgreSQL does not answer at DATABASE_URL ({str(error) or type(error).__name__})."
    return None
