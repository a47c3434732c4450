"""Which groups a search may stop varying, since the scores hardly depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from surrogate.importance import Analysis

# of an even share, what the upper end of an interval has to stay below
FRACTION = 1.0
# groups that are always left to decide
LEAST_LEFT = 2


@dataclass(frozen=True)
class Minor:
    """A group that hardly matters: its share and its upper end in percent, and why."""

    name: str
    share: float
    upper: float
    reason: str


def minor(found: Analysis, level: str = "group") -> tuple[Minor, ...]:
    """Names whose importance stays below an even share for all that is known.

    Args:
        found: the analysis of what was scored near a budget.
        level: whose names are asked.

    Returns:
        The least important first; none where the ranking is not reliable. Two names are
        always left out of it.
    """
    if not found.reliable:
        return ()
    shares = found.levels[level]
    even = 100 / len(shares.names)
    chosen = []
    for at in np.argsort(shares.consensus, kind="stable").tolist():
        share, upper = float(shares.consensus[at]), float(shares.ci95[at, 1])
        # what never varied may matter all the same: its share is 0 for want of a look
        if 0 < upper < FRACTION * even:
            reason = (
                f"It decides {share:.1f} % of the score, {upper:.1f} % at most, where "
                f"an even share is {even:.1f} %."
            )
            chosen.append(Minor(shares.names[at], share, upper, reason))
    return tuple(chosen[: max(0, len(shares.names) - LEAST_LEFT)])
