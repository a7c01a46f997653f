"""Wallet numbers to ids. Numbers never change hands, so what an order has found out is remembered, up to a bound."""


class Directory:
    """
    The numbers that this process has met, the oldest forgotten first.

    Nobody asks the database for one alone: a batch finds the wallets of unknown numbers as it locks their rows. See
    `docs/decisions/0015-unknown-receivers.md`.
    """

    def __init__(self, *, remembered_max: int) -> None:
        self.remembered_max = remembered_max
        self._ids: dict[str, int] = {}

    def wallet_id(self, number: str) -> int | None:
        """The id of the wallet with this number; None where it is not known, or there is none."""
        return self._ids.get(number)

    def remember(self, number: str, wallet_id: int) -> None:
        """Know it from now on."""
        self._ids[number] = wallet_id
        if len(self._ids) > self.remembered_max:
            del self._ids[next(iter(self._ids))]
