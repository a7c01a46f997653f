"""What the forms of the admin have in common: who asks and why, in texts that show."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from piccolo_admin.endpoints import FormConfig
from pydantic import BaseModel, Field, StringConstraints, field_validator
from starlette.requests import Request

from actors.orders import StaffMember
from app.http.plain_text import fault_of, shows


class StaffForm(BaseModel):
    """What every form is: none of its texts holds what other staff could not see."""

    @field_validator("*", mode="before")  # before spaces are taken off, which some of those count as
    @classmethod
    def _visible(cls, value: Any) -> Any:
        if isinstance(value, str):
            if fault := fault_of(value):
                raise ValueError(fault)
            if not shows(value):
                raise ValueError("Expected text that is not blank.")
        return value


Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=500),
    Field(title="Reason: kept in the staff's log, for good"),
]


def operator(request: Request) -> StaffMember:
    """
    Who asks.

    Raises:
        ValueError: a viewer; Piccolo Admin shows the sentence.
    """
    login: Any = request.user.user
    if not login.superuser:
        raise ValueError("You may look, but not act. Ask an operator.")
    return StaffMember(login.id, login.username)


def form_config(
    name: str,
    model: type[StaffForm],
    endpoint: Callable[[Request, Any], Awaitable[str]],
    description: str,
    group: str,
) -> FormConfig:
    """A form as Piccolo Admin wants it described."""
    return FormConfig(
        name=name,
        pydantic_model=model,
        endpoint=endpoint,  # type: ignore[arg-type]  # Piccolo asks for a Coroutine, which an async function returns
        description=description,
        form_group=group,
    )
