"""What the bodies and routes of people have in common."""

from typing import Annotated

from msgspec import Meta

from actors.refusals import DatabaseUnavailable, Overloaded
from app.http.fields import Unshown
from app.http.problems import BAD_BODY

PASSWORD_LENGTH_MIN = 8
PASSWORD_LENGTH_MAX = 128

Email = Annotated[Unshown, Meta(max_length=254, examples=["ann@example.com"])]
Phone = Annotated[
    Unshown, Meta(max_length=40, examples=["+77011234567"], description="With the country code, or a local number.")
]
Password = Annotated[
    Unshown,
    Meta(min_length=PASSWORD_LENGTH_MIN, max_length=PASSWORD_LENGTH_MAX, examples=["correct horse battery staple"]),
]
Code = Annotated[Unshown, Meta(max_length=16, examples=["042137"], description="The six digits that were sent.")]

AWAITS_CODE = "A session; its code is valid for `expires_in` seconds."
YOUR_PROFILE = "Your profile and your wallets."

ANY_BODY = (*BAD_BODY, Overloaded, DatabaseUnavailable)
"""What any route that reads a body may refuse."""
