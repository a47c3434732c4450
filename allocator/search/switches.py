"""Level switches of single groups within a budget, ranked by what each does alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.allocation import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

    Damage = Mapping[tuple[str, Choice], float]

# widths above its own that a switch may raise a group to
STEPS = 2


@dataclass(frozen=True)
class Switch:
    """Groups that get another choice, and the damage that saves by the sum of groups.

    A level up is paid for by levels down elsewhere; a switch of methods costs nothing.
    """

    changes: tuple[tuple[str, Choice], ...]
    saved: float

    @property
    def keys(self) -> frozenset[str]:
        """The groups that change."""
        return frozenset(key for key, _ in self.changes)

    def on(self, allocation: Allocation) -> Allocation:
        """An allocation with the switch made."""
        return allocation.replace(dict(self.changes))


def switches(space: Space, allocation: Allocation, damage: Damage) -> list[Switch]:
    """Switches that keep the budget, most promising first: one for each way up.

    One group goes up by a level or two, others go down where that does the least
    damage, and what is left over is filled; or one changes its method alone.

    Args:
        space: what may be chosen, within which budget.
        allocation: keeps it.
        damage: of each group at each choice, finite.
    """
    moves = _Moves(space, allocation, damage)
    found = [*moves.methods(), *moves.levels()]
    return sorted(found, key=lambda each: -each.saved)


@dataclass
class _Moves:
    space: Space
    allocation: Allocation
    damage: Damage

    def __post_init__(self) -> None:
        self.own = dict(self.allocation.choices)
        self.left = self.space.room - self.space.bytes(self.allocation)

    def _worse(self, key: str, choice: Choice) -> float:
        """Damage that a choice adds to what a group has."""
        return self._at(key, choice) - self._at(key, self.own[key])

    def _at(self, key: str, choice: Choice) -> float:
        return 0.0 if choice.bits == FULL else self.damage[key, choice]

    def _cost(self, key: str, choice: Choice) -> float:
        """Bytes that a choice adds to what a group has."""
        sizes = self.space.group_bytes[key]
        return sizes[choice.bits] - sizes[self.own[key].bits]

    def _best(self, key: str, bits: int) -> Choice:
        """The choice of a width that does least damage."""
        return min(self.space.levels[key][bits], key=lambda c: self._at(key, c))

    def methods(self) -> Iterator[Switch]:
        """Groups that keep their width, by the method that does least damage."""
        for key, own in self.own.items():
            if own.bits != FULL:
                best = self._best(key, own.bits)
                if best != own:
                    yield Switch(((key, best),), -self._worse(key, best))

    def levels(self) -> Iterator[Switch]:
        """Groups that go up, with what pays for it."""
        downs = [
            (key, choice, -self._cost(key, choice), self._worse(key, choice))
            for key, own in self.own.items()
            for choice in (
                self._best(key, bits)
                for bits in self.space.levels[key]
                if bits < own.bits
            )
        ]
        downs.sort(key=lambda down: max(down[3], 0.0) / down[2])
        for key, own in self.own.items():
            wider = [bits for bits in self.space.levels[key] if bits > own.bits]
            for bits in wider[:STEPS]:
                up = self._best(key, bits)
                for paid in self._paid(key, self._cost(key, up) - self.left, downs):
                    changes = self._filled({key: up, **paid})
                    lost = sum(self._worse(k, c) for k, c in changes.items())
                    yield Switch(tuple(changes.items()), -lost)

    def _paid(
        self, key: str, needed: float, downs: list[tuple[str, Choice, float, float]]
    ) -> Iterator[dict[str, Choice]]:
        """Levels down that free enough bytes: the one that costs least, and several."""
        if needed <= 0:
            yield {}
            return
        enough = [down for down in downs if down[0] != key and down[2] >= needed]
        single = min(enough, key=lambda down: down[3], default=None)
        if single is not None:
            yield {single[0]: single[1]}
        several: dict[str, Choice] = {}
        freed = 0.0
        for other, choice, bytes_, _ in downs:
            if other != key and other not in several:
                several[other] = choice
                freed += bytes_
                if freed >= needed:
                    break
        if freed >= needed and len(several) > 1:
            yield several

    def _filled(self, changes: dict[str, Choice]) -> dict[str, Choice]:
        """Changes, and more levels up while there is room, most saved a byte first."""
        left = self.left - sum(self._cost(key, c) for key, c in changes.items())
        found = dict(changes)
        while True:
            ups = [
                (key, up, cost)
                for key, own in self.own.items()
                if key not in found
                for up in self._next(key, own)
                if 0 < (cost := self._cost(key, up)) <= left
                and self._worse(key, up) < 0
            ]
            if not ups:
                return found
            key, up, cost = min(ups, key=lambda each: self._worse(*each[:2]) / each[2])
            found[key] = up
            left -= cost

    def _next(self, key: str, own: Choice) -> list[Choice]:
        """The next wider choice of a group, if there is one."""
        wider = [bits for bits in self.space.levels[key] if bits > own.bits]
        return [self._best(key, wider[0])] if wider else []
