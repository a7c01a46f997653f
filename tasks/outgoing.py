"""Requests to other people's servers: bounded in time, followed nowhere else, and never logged with their address."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx


@asynccontextmanager
async def request(method: str, url: str, *, seconds: float, **options: Any) -> AsyncIterator[httpx.Response]:
    """
    Send a request and hand out the answer, of which nothing but the head has been read, for as long as the block runs.

    httpx counts each read anew, and a server could drip for ever: the limit is around all of it.

    Raises:
        httpx.HTTPError, httpx.InvalidURL, OSError: it can't be sent, or what comes back makes no sense.
        TimeoutError: it has not ended, with the block, within so many seconds.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and some of ours have a key in them
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(timeout=seconds, follow_redirects=False) as client,
        client.stream(method, url, **options) as answer,
    ):
        yield answer


class TooLong(Exception):
    """An answer has more bytes than it can need."""


async def body(answer: httpx.Response, most: int) -> bytes:
    """
    All of an answer, as it came over the wire: what is compressed unasked is not unpacked, since it may be a bomb.

    Raises:
        TooLong: there are more than `most` bytes.
    """
    read = b""
    async for part in answer.aiter_raw():
        read += part
        if len(read) > most:
            raise TooLong
    return read
