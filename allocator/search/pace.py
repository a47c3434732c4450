"""How much time is left: an estimate, scaled by what was taken so far."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.amounts import duration
from allocator.core.clock import Clock
from allocator.core.watch import Forwarding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allocator.core.watch import Tell

# of an estimate, what has to be done before what it took says anything
ENOUGH = 0.05
# seconds of a phase behind which it is said how much is left
LONG = 30.0


class Pace:
    """Where a run is among its parts, and what they took.

    Args:
        seconds: what each part was estimated to take, in order.
        clock: since the first of them began.
    """

    def __init__(
        self, seconds: Mapping[str, float], clock: Clock | None = None
    ) -> None:
        self._seconds = dict(seconds)
        self._names = list(seconds)
        self._clock = clock or Clock()
        self._at, self._share = 0, 0.0

    def is_at(self, name: str, share: float = 0.0) -> bool:
        """Note that a part is under way, or how much of it is done.

        Parts that were passed are left alone: False.
        """
        if name not in self._names[self._at :]:
            return False
        self._at, self._share = self._names.index(name), share
        return True

    @property
    def left(self) -> float:
        """Seconds that are left."""
        total, done = sum(self._seconds.values()), self._done
        taken = self._clock.seconds
        scale = taken / done if done > ENOUGH * total else 1.0
        return scale * (total - done)

    @property
    def _done(self) -> float:
        """Seconds that were estimated for what is done."""
        before = sum(self._seconds[name] for name in self._names[: self._at])
        return before + self._share * self._seconds[self._names[self._at]]


@dataclass(frozen=True)
class Paced(Forwarding):
    """A watch that notes how much time is left."""

    pace: Pace

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase; what is told of it, and what is left behind it, is noted."""
        counts, since = self.pace.is_at(name), Clock()
        with self.watch.phase(name) as told:

            def tell(done: int, total: int, note: str = "", /) -> None:
                if counts and self.pace.is_at(name, done / max(total, 1)):
                    left = f"about {duration(self.pace.left)} left in all"
                    note = f"{note}; {left}" if note else left
                told(done, total, note)

            yield tell
        if counts and self.pace.is_at(name, 1.0) and since.seconds > LONG:
            self.watch.say(f"about {duration(self.pace.left)} left")
