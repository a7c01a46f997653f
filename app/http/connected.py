"""Work that is given up when the client who asked for it has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request
from litestar.exceptions import InternalServerException

from app.http.problems import CLIENT_GONE

T = TypeVar("T")


async def while_connected(request: Request[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """
    What `work` returns or raises, after the request's body has been read.

    The server lets handlers run on for a client that has hung up. That is right for what must be finished once it has
    begun; what is merely costly is cancelled here.

    Raises:
        InternalServerException: the client has gone. Nobody reads the answer.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise InternalServerException(CLIENT_GONE)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
