"""What this process has counted: keys in fixed windows, in memory that has a bound."""

from itertools import count
from math import ceil
from time import monotonic

# A full table takes 28 MB.
KEYS_MAX = 100_000
# So many that are over go with each that begins: more go than come, and nobody waits until thousands have gone.
_GO_WITH_EACH = 2

_numbers = count(1)


class Tally:
    """
    How often one key was counted in one window: `own` by this process, `others` by all others as far as they are known.

    One that is not `kept` is of a single request, for which there was no room: only Redis can count it.
    """

    __slots__ = ("_lost", "_told", "ends_at", "key", "number", "others", "own", "window_seconds")

    def __init__(self, key: str, *, window_seconds: int, kept: bool) -> None:
        self.key = key
        self.window_seconds = window_seconds
        self.ends_at = monotonic() + window_seconds
        # Tells it from an earlier tally of the same key: both may be in Redis.
        self.number = next(_numbers) if kept else 0
        self.own = self.others = 0
        self._told = self._lost = False

    @property
    def kept(self) -> bool:
        """Whether it will be found again."""
        return self.number > 0

    @property
    def seconds_left(self) -> int:
        """Until its window ends: full seconds, at least one."""
        return max(ceil(self.ends_at - monotonic()), 1)

    @property
    def milliseconds_left(self) -> int:
        """Likewise in milliseconds."""
        return max(int((self.ends_at - monotonic()) * 1000), 1)

    def learn(self, *, others: int, milliseconds_left: int, known: bool) -> None:
        """
        What Redis knows of the others, and until when. Its window may have begun earlier than this one.

        It takes back what the others do not count after all. But not where it does not know a tally that was told
        before: then it has lost its data, and those of the others too.
        """
        self._lost = self._lost or (self._told and not known)
        self._told = True
        self.others = max(self.others, others) if self._lost else others
        self.ends_at = min(self.ends_at, monotonic() + milliseconds_left / 1000)


class Tallies:
    """
    The tallies of a process. A window begins with the first that is counted in it.

    Only tallies whose window is over make room for new ones. Whoever makes up keys by the hundred thousand fills the
    table, but does not push out the count of the key that they attack.
    """

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        # By the length of the window: so the oldest is first, and is the first to be over.
        self._by_length: dict[int, dict[str, Tally]] = {}

    def __len__(self) -> int:
        return sum(len(tallies) for tallies in self._by_length.values())

    def of(self, key: str, window_seconds: int) -> Tally:
        """The tally of this key's present window; one that is not kept where there is no room for another."""
        now = monotonic()
        tallies = self._by_length.setdefault(window_seconds, {})
        tally = tallies.get(key)
        if tally is not None:
            if tally.ends_at > now:
                return tally
            del tallies[key]
        self._forget_what_is_over(now)
        tally = Tally(key, window_seconds=window_seconds, kept=len(self) < self._keys_max)
        if tally.kept:
            tallies[key] = tally
        return tally

    def _forget_what_is_over(self, now: float) -> None:
        for tallies in self._by_length.values():
            for _ in range(_GO_WITH_EACH):
                if not tallies or (oldest := next(iter(tallies.values()))).ends_at > now:
                    break
                del tallies[oldest.key]
