"""A connection to Redis for scripts, which are asked for one after another."""

import asyncio
from contextlib import suppress
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, ReadOnlyError


class Script:
    """A Lua script, and the digest that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


def load_script(name: str) -> Script:
    """The script `lua/{name}.lua`, with `lua/keys.lua` in it where it says so."""
    folder = Path(__file__).with_name("lua")
    return Script((folder / f"{name}.lua").read_text().replace("--{keys}", (folder / "keys.lua").read_text()))


class RedisConnection:
    """
    One connection of redis-py's, without the client around it.

    A batch asks twice. The client's pool, retries, metrics and timeouts, one of which makes a task, take longer than
    Redis does.
    """

    def __init__(self, redis_url: str, *, answer_seconds: float) -> None:
        # The time limit is one around all that belongs to an answer, below.
        pool = Redis.from_url(redis_url, socket_timeout=None, socket_connect_timeout=answer_seconds).connection_pool
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self._answer_seconds = answer_seconds
        self._turn = asyncio.Lock()

    async def run(self, script: Script, *arguments: Any) -> Any:
        """
        What the script answers; `arguments` are the number of its keys, the keys, and what they are to be done with.

        A script may be run twice, where a connection turns out to be dead.

        Raises:
            RedisError, OSError, TimeoutError: Redis is not there, or takes too long.
        """
        try:
            return await self._ask("EVALSHA", script.digest, *arguments)
        except NoScriptError:
            return await self._ask("EVAL", script.text, *arguments)

    async def close(self) -> None:
        """Hang up."""
        await self._connection.disconnect()

    async def _ask(self, *command: Any) -> Any:
        async with self._turn, asyncio.timeout(self._answer_seconds):
            with suppress(Disconnected):  # Redis has come back since, or has closed what nobody used
                return await self._ask_once(command)
            return await self._ask_once(command)

    async def _ask_once(self, command: tuple[Any, ...]) -> Any:
        await self._connection.send_command(*command)
        try:
            return await self._connection.read_response()
        except ReadOnlyError:  # a replica now, and its address may lead to another server since
            await self._connection.disconnect()
            raise
