"""What bodies, answers and routes of several rooms share."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

from app.http.explanations import NO_CONTROLS
from app.http.shown_texts import NOT_SHOWN

# Of what else is refused, see `app/http/plain_text.py`: a pattern of it would be a page long.
PlainText = Annotated[str, Meta(pattern=NO_CONTROLS)]
Unshown = Annotated[PlainText, Meta(extra=NOT_SHOWN)]

Amount = Annotated[Decimal, Meta(description="Two decimals.", examples=["12500.00"])]
WalletNumber = Annotated[str, Meta(description="Ten digits.", examples=["4378526578"])]

PUBLIC: list[dict[str, list[str]]] = [{}]
"""The OpenAPI `security` of a route that needs no token; an empty list would be left out of the document."""
