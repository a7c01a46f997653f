"""
The product gives up on a server that is silent for a second or a few. Tests don't, where they are not about silence.

On a busy machine a server that answers late counts as there: the outcome of a test is not up to the machine.
"""

from msgspec.structs import replace

from actors.bank import Limits
from actors.engine.locks import Lease
from db.engine import Pool

PATIENCE_SECONDS = 60.0

# How long the product waits for a server before it counts as silent.
GIVEN_UP_AFTER = (
    "actors.engine.settlement._BATCH_SECONDS",
    "actors.engine.settlement._BEGIN_SECONDS",
    "app.auth.revocations.QUESTION_SECONDS",
    "app.auth.turns.WAIT_SECONDS",
    "app.limits.payments.COUNT_SECONDS",
    "app.limits.requests.COUNT_SECONDS",
    "app.main.REDIS_SECONDS",
    "app.payments.probing.COUNT_SECONDS",
    "app.people.codes.STORE_SECONDS",
    "app.people.images.child.WALL_SECONDS",
    "app.staff.workers_board.BOARD_SECONDS",
    "app.telemetry.health.PROBE_SECONDS",
    "app.telemetry.metrics.PROBE_SECONDS",
    "db.transaction.COMMIT_SECONDS",
    "tasks.messages.outbox.HASTEN_SECONDS",
    "tasks.rates.board.READ_SECONDS",
)
# Likewise what is configured.
PATIENT_POOL = Pool(lock_timeout_seconds=PATIENCE_SECONDS, statement_timeout_seconds=PATIENCE_SECONDS)
PATIENT_LEASE = Lease(answer_seconds=PATIENCE_SECONDS)
PATIENT_LIMITS = Limits(deadline_seconds=PATIENCE_SECONDS, patience_seconds=PATIENCE_SECONDS)


def patient(limits: Limits) -> Limits:
    """These limits, patient where they say nothing of how long: such a test is not about that."""
    names = ("deadline_seconds", "patience_seconds")
    unsaid = [name for name in names if getattr(limits, name) == getattr(Limits(), name)]
    return replace(limits, **dict.fromkeys(unsaid, PATIENCE_SECONDS))
