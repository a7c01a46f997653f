"""Wallet numbers to ids. Numbers never change hands, so what was once looked up is remembered, up to a bound."""

import asyncio
from collections.abc import Collection
from contextvars import Context

from db import ledger


class Directory:
    """Finds wallets by number. Numbers that are asked for while a query is under way share the next one."""

    def __init__(self, *, remembered_max: int) -> None:
        self.remembered_max = remembered_max
        self._ids: dict[str, int] = {}
        self._asked: dict[str, asyncio.Future[int | None]] = {}
        self._search: asyncio.Task[None] | None = None

    async def wallet_id(self, number: str) -> int | None:
        """The id of the wallet with this number; None where no person's wallet has it."""
        known = self._ids.get(number)
        if known is not None:
            return known
        if number not in self._asked:
            self._asked[number] = asyncio.get_running_loop().create_future()
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._find(), context=Context())
        return await asyncio.shield(self._asked[number])

    async def wallet_ids(self, numbers: Collection[str]) -> set[int]:
        """The ids of the wallets with these numbers: those that nobody remembers in one query of its own."""
        unknown = [number for number in numbers if number not in self._ids]
        found = await ledger.wallet_ids(unknown) if unknown else {}
        ids = {id for number in numbers if (id := self._ids.get(number) or found.get(number))}
        self._remember(found)
        return ids

    async def _find(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await ledger.wallet_ids(asked)
            except Exception as error:  # noqa: BLE001 - whatever it is, it goes to those who asked
                for answer in asked.values():
                    answer.set_exception(error)
                continue
            self._remember(found)
            for number, answer in asked.items():
                answer.set_result(found.get(number))

    def _remember(self, found: dict[str, int]) -> None:
        self._ids.update(found)
        while len(self._ids) > self.remembered_max:
            del self._ids[next(iter(self._ids))]
