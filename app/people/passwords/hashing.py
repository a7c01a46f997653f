"""Passwords: argon2id, off the event loop."""

from collections.abc import Callable
from secrets import token_urlsafe
from typing import ParamSpec

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from actors.refusals import Refusal
from app.limits.threads import Threads

P = ParamSpec("P")

# OWASP's floor for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane. About 20 ms here.
_ARGON2 = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1, hash_len=32, salt_len=16, type=Type.ID)


class WrongPassword(Refusal):
    code = "wrong_password"
    title = "The current password is wrong."
    detail = "Nothing has changed. Give the password you sign in with."


class Passwords:
    """
    Hashes and compares passwords in two threads, about a hundred a second.

    Its methods raise `Overloaded` when more than `waiting_max` calls wait.
    """

    def __init__(self, *, threads: int = 2, waiting_max: int = 256) -> None:
        self._threads = Threads("password", count=threads, waiting_max=waiting_max)
        # What an unknown person's password is compared with, so that it takes as long as a known one's.
        self._nobodys_hash = _ARGON2.hash(token_urlsafe())

    async def hash(self, password: str) -> str:
        """The argon2id hash in PHC string format: it carries its salt and its parameters."""
        return await self._threads.run(_ARGON2.hash, password)

    async def match(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the hashed one; no hash matches nothing, and takes the same time to say so."""
        same = await self._threads.run(_same, password_hash or self._nobodys_hash, password)
        return same and password_hash is not None

    async def checked(self, check: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Look at a new password in these threads too; raises what `check` raises."""
        await self._threads.run(check, *args, **kwargs)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.close()


def _same(password_hash: str, password: str) -> bool:
    try:
        return _ARGON2.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """
    Whether a hash is weaker than one made today.

    Never where it is stronger: while two versions run side by side, the older one must not undo the newer one's work.
    """
    try:
        theirs = extract_parameters(password_hash)
    except InvalidHashError:
        return False
    stronger = theirs.time_cost * theirs.memory_cost >= _ARGON2.time_cost * _ARGON2.memory_cost
    return not stronger and _ARGON2.check_needs_rehash(password_hash)
