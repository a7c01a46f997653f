"""What operators ask about people: forms of the admin that block somebody and let them in again."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from piccolo_admin.endpoints import FormConfig
from pydantic import Field, StringConstraints
from starlette.requests import Request

from actors.orders import StaffMember
from app.people.blocking import Blocked, block, unblock
from app.people.lookup import PersonError
from app.staff.forms import Reason, StaffForm, form_config, operator

GROUP = "Act on people"
Who = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=254),
    Field(title="Phone number, email address or id"),
]


class BlockForm(StaffForm):
    person: Who
    reason: Reason


class UnblockForm(BlockForm):
    pass


class _Change(Protocol):
    async def __call__(self, who: str, *, reason: str, staff: StaffMember, phone_region: str) -> Blocked: ...


def people_forms(phone_region: str) -> list[FormConfig]:
    """The forms. `phone_region` is where numbers without a country code belong."""

    def asking(change: _Change, done: str, unchanged: str) -> Callable[[Request, Any], Awaitable[str]]:
        async def endpoint(request: Request, form: BlockForm) -> str:
            staff = operator(request)
            try:
                came_to = await change(form.person, reason=form.reason, staff=staff, phone_region=phone_region)
            except PersonError as error:
                raise ValueError(str(error)) from None
            return done if came_to.changed else unchanged

        return endpoint

    blocking = asking(block, "Blocked: their sessions end within seconds.", "They were blocked already.")
    unblocking = asking(unblock, "No longer blocked: they can sign in again.", "They were not blocked.")
    return [
        form_config("Block a person", BlockForm, blocking, "End their sessions and refuse further sign-ins.", GROUP),
        form_config("Unblock a person", UnblockForm, unblocking, "Let them sign in again.", GROUP),
    ]
