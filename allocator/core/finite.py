"""What stands for a number that a model did not give: it overflowed, or divided 0 by 0.

Half precision ends at 65,504, and a model at few bits runs into that now and then. What
comes out then says one thing: not this allocation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    Choice = TypeVar("Choice", bound=Hashable)

# damages above it are told apart no more: trees compute in float32
MOST = 1e30


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether there is a value, and it is finite."""
    return value is not None and math.isfinite(value)


def finite_damage(
    damage: Mapping[tuple[str, Choice], float | None],
) -> dict[tuple[str, Choice], float]:
    """Damages with a large number for every one that is not finite.

    So large that whatever does without such choices has a smaller sum, and a smaller
    sum of square roots, than whatever has one of them: they are chosen where nothing
    else fits.

    Args:
        damage: loss of a group at a choice, by (group, choice).

    >>> finite_damage({("a", 2): math.nan, ("a", 4): 0.25, ("b", 4): 1.0})
    {('a', 2): 4.5, ('a', 4): 0.25, ('b', 4): 1.0}
    """
    known = {at: min(value, MOST) for at, value in damage.items() if is_number(value)}
    most: dict[str, float] = {}
    for (group, _), value in known.items():
        most[group] = max(most.get(group, 0.0), value)
    large = 2 * math.fsum(map(math.sqrt, most.values())) ** 2 or 1.0
    return {at: known.get(at, large) for at in damage}


def without_overflow(kept: Any) -> Any:
    """Plain data with None for every number that is not finite.

    >>> without_overflow({"score": math.nan, "ci95": [1.0, math.inf]})
    {'score': None, 'ci95': [1.0, None]}
    """
    if isinstance(kept, dict):
        return {name: without_overflow(value) for name, value in kept.items()}
    if isinstance(kept, list):
        return [without_overflow(value) for value in kept]
    return kept if not isinstance(kept, float) or math.isfinite(kept) else None
