"""The multiple-choice knapsack: one choice for each group, least summed loss.

Exact, and fast where losses spread as they do in practice. The bound is the linear
relaxation, which the greedy over the lower convex hulls solves (Dyer, "An O(n)
algorithm for the multiple-choice knapsack linear program", 1984; Zemel 1984). Choices
whose reduced loss alone closes the gap between that bound and the best answer known are
left out; what remains is solved by dynamic programming over lists of undominated
states, each pruned by the bound of what is left to decide (Pisinger, "A minimal
algorithm for the multiple-choice knapsack problem", 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import FULL
from allocator.core.errors import BudgetError
from allocator.strategies._hulls import Steps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

# states kept after each class, pass by pass, until none was dropped that matters
BEAMS = (256, 2048, 16_384)
# states looked at in a pass: a second or so at the most
WORK = 6_000_000
# answers closer than this, relative to the losses, count as equal
CLOSE = 1e-13
# classes from which on what is decided is left out: among equals another may come first
MANY = 2000


@dataclass(frozen=True)
class Solution:
    """What was chosen in each class, and how good it is.

    Attributes:
        picks: index of the choice in each class.
        loss: their summed loss.
        bound: no answer has a smaller loss; equal to `loss` where `loss` is optimal.
    """

    picks: tuple[int, ...]
    loss: float
    bound: float


def knapsack(space: Space, damage: Mapping[tuple[str, Choice], float]) -> Allocation:
    """The allocation of least summed damage under the budget.

    Where only some allocations can be measured it is the best of those.

    Args:
        space: what may be chosen.
        damage: a finite loss of each group at each choice; 16 bits do none unless it
            says otherwise.

    Raises:
        BudgetError: nothing fits.
    """
    found = least(space, damage)
    if found is None:
        raise BudgetError("nothing fits the budget")
    return found


def least(
    space: Space,
    damage: Mapping[tuple[str, Choice], float],
    excluded: Iterable[Allocation] = (),
    taken: Collection[str] = (),
) -> Allocation | None:
    """The allocation of least summed damage that fits and may be proposed.

    Args:
        space: what may be chosen.
        damage: a finite loss of each group at each choice; 16 bits do none unless it
            says otherwise.
        excluded: allocations that may not be proposed.
        taken: digests of such.
    """
    if space.rows is not None:
        barred = {allocation.digest for allocation in excluded}.union(taken)
        free = (row for row in space.rows if row.digest not in barred)
        return min(free, key=lambda row: summed(row, damage), default=None)
    allowed = [space.allowed[key] for key in space.keys]
    costs, losses = [], []
    for key, own in zip(space.keys, allowed, strict=True):
        costs.append(np.array([space.group_bytes[key][c.bits] for c in own], float))
        losses.append(np.array([_loss(damage, key, c) for c in own], float))
    made = {own: {choice: at for at, choice in enumerate(own)} for own in set(allowed)}
    places = [made[own] for own in allowed]
    paired = [list(zip(places, each, strict=True)) for each in excluded]
    barred_picks = [
        tuple(place[choice] for place, (_, choice) in pairs)
        for pairs in paired
        if all(choice in place for place, (_, choice) in pairs)
    ]
    while (found := solve(costs, losses, space.room, barred_picks)) is not None:
        chosen = zip(space.keys, allowed, found.picks, strict=True)
        allocation = space.smallest.replace({k: own[at] for k, own, at in chosen})
        if allocation.digest not in taken:
            return allocation
        barred_picks.append(found.picks)
    return None


def _loss(
    damage: Mapping[tuple[str, Choice], float], key: str, choice: Choice
) -> float:
    """A group's loss; at 16 bits, which only a pin may have brought in, it is 0."""
    at = key, choice
    return damage.get(at, 0.0) if choice.bits == FULL else damage[at]


def summed(allocation: Allocation, damage: Mapping[tuple[str, Choice], float]) -> float:
    """The damages of all groups."""
    return sum(damage[key, choice] for key, choice in allocation)


def solve(
    costs: Sequence[Floats],
    losses: Sequence[Floats],
    room: float,
    excluded: Sequence[tuple[int, ...]] = (),
) -> Solution | None:
    """Choose one of each class, of least summed loss, within the room.

    At most 16,384 states are kept after a class, fewer where there are a great many
    choices. Where that is too few (losses that hardly differ but by what they cost),
    the answer is the best that was found, and `bound` is below its loss.

    Args:
        costs: for each class the costs of its choices.
        losses: for each class the finite losses of its choices.
        room: what the costs may add up to.
        excluded: answers that are not wanted.

    Returns:
        None where no answer keeps the room.

    >>> cheap_or_good = [np.array([1.0, 3.0])] * 2
    >>> solve(cheap_or_good, [np.array([5.0, 0.0]), np.array([4.0, 0.0])], 4).picks
    (1, 0)
    """
    if sum(float(cost.min()) for cost in costs) > room:
        return None
    search = _Search(costs, losses, room, excluded)
    bound = -np.inf
    for beam in BEAMS:
        bound = search.look(beam)
        if bound >= search.target:
            break
    if search.picks is None:
        return None
    exact = bound >= search.target
    return Solution(search.picks, search.best, search.best if exact else bound)


def _reachable(costs: Sequence[Floats], room: float) -> float:
    """The room down to what can be filled, where all costs are whole numbers."""
    if not all(np.all(cost == np.rint(cost)) for cost in costs):
        return room
    floor = sum(float(cost.min()) for cost in costs)
    above = [(cost - cost.min()).astype(np.int64) for cost in costs]
    unit = max(1, int(np.gcd.reduce(np.concatenate(above))))
    return floor + (room - floor) // unit * unit


class _Search:
    """A knapsack, and the best answer to it that was found so far."""

    def __init__(
        self,
        costs: Sequence[Floats],
        losses: Sequence[Floats],
        room: float,
        excluded: Sequence[tuple[int, ...]],
    ) -> None:
        self.costs, self.losses, self.room = costs, losses, _reachable(costs, room)
        self.excluded = np.array(excluded, dtype=np.int64).reshape(-1, len(costs))
        self.close = CLOSE * sum(float(np.abs(each).max()) for each in losses)
        self.best = np.inf
        self.picks: tuple[int, ...] | None = None
        self.steps = steps = Steps.of(costs, losses)
        self.left = self.room - steps.behind(costs)[0]
        reach = np.cumsum(steps.cost)
        self.last = int(np.searchsorted(reach, self.left, side="right"))
        if len(costs) >= MANY:
            # the relaxed answer, its last step not taken
            picks = steps.start.copy()
            picks[steps.owner[: self.last]] = steps.pick[: self.last]
            if not (self.excluded == picks).all(1).any():
                self.offer(picks)

    @property
    def target(self) -> float:
        """What a bound must stay below to promise a better answer."""
        return self.best - self.close

    def offer(self, picks: Integers) -> None:
        """Keep an answer if it is the best so far."""
        at = tuple(picks.tolist())
        loss = math.fsum(float(x[k]) for x, k in zip(self.losses, at, strict=True))
        if loss < self.best:
            self.best, self.picks = loss, at

    def look(self, beam: int) -> float:
        """Improve the answer; a bound on the answers that were not looked at."""
        kept = self._worth()
        if not all(map(len, kept)):
            return np.inf
        within = WORK // sum(map(len, kept))
        return _Pass(self, kept).run(max(BEAMS[0], min(beam, within)))

    def _worth(self) -> list[Integers]:
        """The choices of each class that may be part of a better answer."""
        steps, left, last = self.steps, self.left, self.last
        full = last == len(steps.cost)
        price = 0.0 if full else -float(steps.loss[last] / steps.cost[last])
        paid = [x + price * c for c, x in zip(self.costs, self.losses, strict=True)]
        relaxed = sum(float(each.min()) for each in paid) - price * self.room
        limit = self.target - relaxed
        return [
            np.flatnonzero((each - each.min() < limit) & (cost - cost[at] <= left))
            for each, cost, at in zip(paid, self.costs, steps.start, strict=True)
        ]


class _Pass:
    """One run of dynamic programming over the classes, a list of states at a time.

    States after a class are answers to the classes so far. `node` of a state is its
    place among the beginnings of excluded answers, or -1: one that may end as an
    excluded answer dominates no other, since that other may be wanted.
    """

    def __init__(self, search: _Search, kept: list[Integers]) -> None:
        self.search = search
        self.order = sorted(range(len(kept)), key=lambda k: len(kept[k]))
        self.kept = [kept[k] for k in self.order]
        self.costs = [search.costs[k][kept[k]] for k in self.order]
        self.losses = [search.losses[k][kept[k]] for k in self.order]
        self.steps = Steps.of(self.costs, self.losses)
        # what the classes behind take at least, and lose then
        self.least = self.steps.behind(self.costs)
        self.base = self.steps.behind(self.losses)
        single = sum(len(each) == 1 for each in kept)
        self.decided = single if len(kept) >= MANY else 0
        first = [np.zeros(1, np.int64)] * self.decided
        self.parents, self.chosen = first, list(first)

    def run(self, beam: int) -> float:
        """Improve the search's answer; the least bound of the states left out."""
        search, lost, decided = self.search, np.inf, self.decided
        cost = np.array([math.fsum(float(c[0]) for c in self.costs[:decided])])
        loss = np.array([math.fsum(float(x[0]) for x in self.losses[:decided])])
        only = [int(each[0]) for each in self.kept[:decided]]
        begun = (search.excluded[:, self.order[:decided]] == only).all(1)
        among = np.where(begun, 0, -1)
        node = np.full(1, 0 if begun.any() else -1)
        if decided == len(self.costs):
            self._bounds(decided - 1, cost, loss, node)
        for level in range(decided, len(self.costs)):
            c, x = self.costs[level], self.losses[level]
            table, among = self._table(level, among)
            parent = np.repeat(np.arange(len(cost)), len(c))
            pick = np.tile(np.arange(len(c)), len(cost))
            cost = (cost[:, None] + c).ravel()
            loss = (loss[:, None] + x).ravel()
            node = table[node].ravel()
            self.parents.append(parent)
            self.chosen.append(pick)
            bound = self._bounds(level, cost, loss, node)
            alive = np.flatnonzero(bound < search.target)
            alive = alive[_undominated(cost[alive], loss[alive], node[alive])]
            if len(alive) > beam:
                alive = alive[np.argpartition(bound[alive], beam)]
                lost = min(lost, float(bound[alive[beam:]].min()))
                alive = alive[:beam]
            cost, loss, node = cost[alive], loss[alive], node[alive]
            self.parents[-1], self.chosen[-1] = parent[alive], pick[alive]
            if not len(alive):
                break
        return lost

    def _bounds(self, level: int, cost: Floats, loss: Floats, node: Integers) -> Floats:
        """Least losses that states can lead to; offers the best way to round them."""
        steps, base = self.steps, self.base[level + 1]
        ahead = np.flatnonzero(steps.owner > level)
        reach = np.concatenate([[0.0], np.cumsum(steps.cost[ahead])])
        gain = np.concatenate([[0.0], np.cumsum(steps.loss[ahead])])
        left = self.search.room - self.least[level + 1] - cost
        bound: Floats = loss + base + np.interp(left, reach, gain)
        bound[left < 0] = np.inf
        taken = np.searchsorted(reach, left, side="right") - 1
        rounded = loss + base + gain[taken]
        rounded[(left < 0) | (node >= 0)] = np.inf
        best = int(rounded.argmin())
        if rounded[best] < self.search.best:
            self._offer(level, best, ahead[: taken[best]])
        return bound

    def _offer(self, level: int, state: int, steps: Integers) -> None:
        """Tell the search of a state's answer, completed by some steps."""
        picks = self.steps.start.copy()
        picks[self.steps.owner[steps]] = self.steps.pick[steps]
        for k in range(level, -1, -1):
            picks[k] = self.chosen[k][state]
            state = self.parents[k][state]
        answer = np.empty_like(picks)
        answer[self.order] = [own[at] for own, at in zip(self.kept, picks, strict=True)]
        self.search.offer(answer)

    def _table(self, level: int, among: Integers) -> tuple[Integers, Integers]:
        """Which node each choice leads to from each node, and the answers' nodes.

        The last row is that of states at none, which index -1 reaches.
        """
        kept = self.kept[level]
        own = self.search.excluded[:, self.order[level]]
        table = np.full((int(among.max(initial=-1)) + 2, len(kept)), -1)
        after = np.full(len(among), -1)
        pairs: dict[tuple[int, int], int] = {}
        for row in np.flatnonzero(among >= 0):
            at = np.flatnonzero(kept == own[row])
            if len(at):
                pair = int(among[row]), int(at[0])
                after[row] = table[pair] = pairs.setdefault(pair, len(pairs))
        return table, after


def _undominated(cost: Floats, loss: Floats, node: Integers) -> Integers:
    """Places of the states that no free state beats in both cost and loss."""
    order = np.lexsort((loss, cost))
    free = np.where(node[order] < 0, loss[order], np.inf)
    before = np.minimum.accumulate(np.concatenate([[np.inf], free[:-1]]))
    return order[loss[order] < before]
