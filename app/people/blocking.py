"""People whom staff let in no more: they can't sign in, refresh or reset. Money sent to their wallets still arrives."""

from getpass import getuser
from uuid import UUID, uuid4

from msgspec import Struct

from actors.orders import StaffMember
from app.auth import refresh
from app.http.plain_text import fault_of, shows
from app.people.lookup import PersonError, find_person
from db.tables import StaffAction, User
from db.transaction import transaction

REASON_MAX = 500


class Blocked(Struct, frozen=True, kw_only=True):
    """What came of it: nothing where they were blocked, or not blocked, already."""

    user_id: UUID
    changed: bool
    sessions: list[UUID] = []
    """Those that have ended. `Tokens.revoke` may be told; the other processes find out by themselves."""


def shell() -> StaffMember:
    """Who acts on the command line: nobody's login, but the name of their account on this machine."""
    return StaffMember(0, f"command line ({getuser()})")


async def block(who: str, *, reason: str, staff: StaffMember, phone_region: str) -> Blocked:
    """
    Let this person in no more, and end all their sessions.

    `who` is an id, an email address or a phone number.

    Raises:
        PersonError: there is no such person, or no good reason.
    """
    return await _change(who, blocked=True, reason=reason, staff=staff, phone_region=phone_region)


async def unblock(who: str, *, reason: str, staff: StaffMember, phone_region: str) -> Blocked:
    """Let them sign in again, as `block`. Sessions that have ended stay so."""
    return await _change(who, blocked=False, reason=reason, staff=staff, phone_region=phone_region)


async def _change(who: str, *, blocked: bool, reason: str, staff: StaffMember, phone_region: str) -> Blocked:
    fault, reason = fault_of(reason), reason.strip()
    if fault or not 3 <= len(reason) <= REASON_MAX or not shows(reason):
        sentence = f"Give a reason of 3 to {REASON_MAX} printable characters: it is kept in the staff's log."
        raise PersonError(f"{sentence} {fault or ''}".rstrip())
    user_id = await find_person(who, phone_region=phone_region)
    async with transaction():
        # As everywhere, the user's row first. Nothing happens to it where this is how it is already.
        changed = await User.raw(
            'UPDATE "user" SET blocked_at = CASE WHEN {} THEN now() END, updated_at = now()'
            " WHERE id = {} AND (blocked_at IS NULL) = {} RETURNING id",
            blocked,
            user_id,
            blocked,
        )
        if not changed:
            return Blocked(user_id=user_id, changed=False)
        await StaffAction.insert(
            StaffAction(
                id=uuid4(),
                staff=staff.id,
                staff_name=staff.name[:100],
                action="BLOCK" if blocked else "UNBLOCK",
                user=user_id,
                reason=reason,
            )
        )
        ended = await refresh.revoke_all(user_id) if blocked else []
    return Blocked(user_id=user_id, changed=True, sessions=ended)
