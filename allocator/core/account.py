"""Where a run's work goes: parts, each with its seconds and what was counted in it."""

from __future__ import annotations

import resource
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.clock import Clock
from allocator.core.cost import Cost
from allocator.core.watch import Forwarding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.watch import Tell

# what comes before the first part, between two and behind the last
OTHER = "other"


@dataclass
class Account:
    """Splits seconds and counters among the parts of a run.

    Parts may lie in one another: what belongs to the inner one is not the outer one's.

    Attributes:
        cost: what is counted, all in all.
        clock: of the run.
        parts: of each part its seconds and counters, in the order in which they began.
    """

    cost: Cost
    clock: Clock = field(default_factory=Clock)
    parts: dict[str, tuple[float, Cost]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open = [OTHER]
        self._seconds, self._before = 0.0, Cost()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count for a part, again where there was one of the same name."""
        self._note()
        self._open.append(name)
        self.parts.setdefault(name, (0.0, Cost()))
        try:
            yield
        finally:
            self._note()
            self._open.pop()

    def _note(self) -> None:
        """Give what was done since the last time to the innermost part."""
        now, cost = self.clock.seconds, self.cost.copy()
        seconds, before = self.parts.get(self._open[-1], (0.0, Cost()))
        spent = cost - self._before
        self.parts[self._open[-1]] = seconds + now - self._seconds, before + spent
        self._seconds, self._before = now, cost

    def to_json(self, device: int | None = None) -> dict[str, Any]:
        """Plain data: counters, the same by part, seconds, bytes in memory at most.

        Args:
            device: bytes of an accelerator's memory at most; None: there is none.
        """
        self._note()
        return {
            **self.cost.to_json(),
            "seconds": {name: seconds for name, (seconds, _) in self.parts.items()},
            "parts": {name: cost.to_json() for name, (_, cost) in self.parts.items()},
            "peak_memory": {**peak_memory(), "device": device},
        }


@dataclass(frozen=True)
class Accounted(Forwarding):
    """A watch whose phases are the parts of an account."""

    account: Account

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase, and count for it."""
        with self.account.part(name), self.watch.phase(name) as told:
            yield told


def no_account() -> dict[str, Any]:
    """The keys of an account where nothing is run: None each."""
    return dict.fromkeys(Account(Cost()).to_json())


def peak_memory() -> dict[str, int]:
    """Bytes of memory that this process has held at most, and any child that ended."""
    # kilobytes, but on macOS (getrusage(2))
    unit = 1 if sys.platform == "darwin" else 1024
    kinds = {"host": resource.RUSAGE_SELF, "children": resource.RUSAGE_CHILDREN}
    return {
        name: resource.getrusage(kind).ru_maxrss * unit for name, kind in kinds.items()
    }
