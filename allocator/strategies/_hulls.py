"""Lower convex hulls of choices: what the relaxed knapsack is solved by.

Dyer, "An O(n) algorithm for the multiple-choice knapsack linear program" (1984), and
Zemel, "An O(n) algorithm for the linear multiple choice knapsack problem and related
problems" (1984): taking the steps of all hulls, best first, until the room is used up
solves the linear relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Steps:
    """Lower convex hulls of classes, as steps from their cheapest choices, best first.

    Attributes:
        start: each class's cheapest choice, the best one of those.
        owner: of each step the class.
        pick: of each step the choice it leads to.
        cost: of each step what it costs.
        loss: of each step what it adds to the loss, never more than 0.
    """

    start: Integers
    owner: Integers
    pick: Integers
    cost: Floats
    loss: Floats

    @staticmethod
    def of(costs: Sequence[Floats], losses: Sequence[Floats]) -> Steps:
        """The steps of all classes by falling gain for each unit of cost."""
        hulls = [_hull(c, x) for c, x in zip(costs, losses, strict=True)]
        owner = np.repeat(np.arange(len(hulls)), [len(hull) - 1 for hull in hulls])
        pick = np.array([at for hull in hulls for at in hull[1:]], dtype=np.int64)
        pairs = list(zip(hulls, costs, losses, strict=True))
        cost = np.concatenate([np.diff(c[hull]) for hull, c, _ in pairs])
        loss = np.concatenate([np.diff(x[hull]) for hull, _, x in pairs])
        order = np.argsort(loss / cost, kind="stable")
        start = np.array([hull[0] for hull in hulls], dtype=np.int64)
        return Steps(start, owner[order], pick[order], cost[order], loss[order])

    def behind(self, values: Sequence[Floats]) -> Floats:
        """What each class and those behind it have at their starts, and 0 at last.

        Args:
            values: for each class those of its choices, costs or losses.
        """
        own = [float(each[at]) for each, at in zip(values, self.start, strict=True)]
        return np.array([sum(own[at:]) for at in range(len(own) + 1)], float)


def _hull(cost: Floats, loss: Floats) -> list[int]:
    """Choices on the lower convex hull, of rising cost and falling loss."""
    hull: list[int] = []
    for at in np.lexsort((loss, cost)).tolist():
        if hull and loss[at] >= loss[hull[-1]]:
            continue
        while len(hull) > 1:
            below, last = hull[-2], hull[-1]
            gain = (loss[below] - loss[last]) * (cost[at] - cost[below])
            if gain > (loss[below] - loss[at]) * (cost[last] - cost[below]):
                break
            hull.pop()
        hull.append(at)
    return hull
