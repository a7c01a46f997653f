"""A lock server that runs the real scripts, forgets, and goes away. What it is asked is executed at once and alone."""

import asyncio
from collections.abc import Callable
from hashlib import sha1
from typing import Any, Protocol

from lupa.lua51 import LuaRuntime
from redis.exceptions import NoScriptError, ResponseError

from tests.simulation.world import World

_lua = LuaRuntime()
_compiled: dict[str, Any] = {}
_serving: list["LockServer"] = []
"""Whose script runs. Lua would keep what it was given itself for long, a whole simulation with it."""
_redis = _lua.table_from({"call": lambda *command: _serving[0].call(*command)})


class Listener(Protocol):
    """Who has subscribed to a channel."""

    deaf: bool

    def deliver(self, message: bytes) -> None: ...
    def hang_up(self) -> None: ...


class LockServer:
    """Keys that expire, scripts in Lua, channels; and how it is at the moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.hangs = False
        self.unread: list[Callable[[], None]] = []
        self.life = 0  # connections to an earlier life are broken
        self.channels: dict[str, list[Listener]] = {}
        self._values: dict[str, tuple[str, float]] = {}  # and when they expire
        self._scripts: set[str] = set()
        self._token: str | None = None

    def execute(self, command: tuple[Any, ...]) -> Any:
        """Raises what redis-py would."""
        match command:
            case ("EVALSHA", digest, *arguments):
                if digest not in self._scripts:
                    raise NoScriptError("NOSCRIPT No matching script.")
                return self._run(digest, arguments)
            case ("EVAL", text, *arguments):
                digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
                if digest not in _compiled:
                    _compiled[digest] = _lua.eval(f"function(redis, KEYS, ARGV) {text} end")
                self._scripts.add(digest)
                return self._run(digest, arguments)
        raise ResponseError(f"unknown command {command[0]}")

    def keys(self) -> dict[str, str]:
        """What is there now."""
        now = self.world.loop.time()
        self._values = {key: kept for key, kept in self._values.items() if kept[1] > now}
        return {key: value for key, (value, _) in self._values.items()}

    def restart(self, *, forget: bool) -> None:
        """It is killed and comes back, with its data or without; scripts and connections are gone."""
        self.life += 1
        self._scripts.clear()
        for listener in [each for listeners in self.channels.values() for each in listeners]:
            listener.hang_up()
        self.channels.clear()
        if forget:
            self._values.clear()

    def go_on(self) -> None:
        """It does not hang any more, and reads what it was sent meanwhile."""
        self.hangs = False
        unread, self.unread = self.unread, []
        for arrive in unread:
            arrive()

    def _run(self, digest: str, arguments: list[Any]) -> Any:
        number, *rest = map(str, arguments)
        keys, argv = rest[: int(number)], rest[int(number) :]
        self._token = argv[0]
        _serving[:] = [self]
        answer = _compiled[digest](_redis, _lua.table_from(keys), _lua.table_from(argv))
        answer = list(answer.values()) if hasattr(answer, "values") else answer
        self.world.note("redis", keys[0], *argv[:1], argv[-1], "->", answer)
        return answer

    def call(self, command: str, *arguments: Any) -> Any:
        """What a script asks for."""
        now = self.world.loop.time()
        match command:
            case "MGET":
                return _lua.table_from([self._get(key, now) for key in arguments])
            case "SET":
                self._set(now, *arguments)
            case "DEL":
                for key in arguments:
                    value, _ = self._values.pop(key, (None, 0.0))
                    if value != self._token and not key.endswith(":next"):
                        self.world.find(f"{self._token} released {key}, which was {value}'s")
            case "PTTL":
                _, until = self._values.get(arguments[0], ("", now))
                return int((until - now) * 1000) if until > now else -2
            case "PUBLISH":
                channel, message = arguments
                for listener in self.channels.get(channel, ()):
                    listener.deliver(message.encode())
            case _:
                raise ResponseError(f"unknown command {command}")
        return True

    def _get(self, key: str, now: float) -> str | bool:
        value, until = self._values.get(key, (False, 0.0))
        return value if until > now else False

    def _set(self, now: float, key: str, value: str, option: str = "", milliseconds: Any = 0) -> None:
        if option == "KEEPTTL":
            until = self._values[key][1]
        elif option == "PX":
            until = now + float(milliseconds) / 1000
        else:
            self.world.find(f"{key} was set to be kept for ever")
            until = float("inf")
        queue = self._get(f"{key}:next", now)
        if isinstance(queue, str) and not value.startswith(queue.split(",")[0]):
            self.world.find(f"{value} took {key}, which is kept for {queue}")
        self._values[key] = (value, until)


def lose(answer: "asyncio.Future[Any]", error: Exception) -> None:
    """Whoever waits for it hears that it will not come."""
    if not answer.done():
        answer.set_exception(error)
