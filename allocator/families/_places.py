"""Which linear of a module belongs where: patterns on full names, never guesses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.ports import Siblings
from allocator.core.spec import (
    COMPONENTS,
    Component,
    Granularity,
    LeftOut,
    Linear,
    ModelSpec,
    build_groups,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Place:
    """Linears whose full name matches belong to a component, a block and a type.

    The pattern's group `block`, if it has one, is the block's number.
    """

    pattern: str
    component: Component
    type: str = "all"


@dataclass(frozen=True)
class Rest:
    """Linears whose full name matches stay at 16 bit, for a reason."""

    pattern: str
    reason: str


def place_linears(
    family: str,
    module: Any,
    places: Sequence[Place],
    rests: Sequence[Rest],
    granularity: Granularity,
) -> ModelSpec:
    """Put every linear of a module (its weights may be on "meta") in its place.

    Raises:
        SpecError: a linear matches no pattern, or a pattern no linear.
    """
    from torch import nn

    linears: list[Linear] = []
    left: list[LeftOut] = []
    unmatched = {place.pattern for place in places}
    for name, child in module.named_modules():
        if not isinstance(child, nn.Linear):
            continue
        placed = _placed(name, child, places)
        if placed:
            linears.append(placed[0])
            unmatched.discard(placed[1])
        else:
            left.append(_left(family, name, child, rests))
    if unmatched:
        raise SpecError(
            f"family {family!r}: no linear matches {', '.join(sorted(unmatched))}"
        )
    linears.sort(key=lambda linear: COMPONENTS.index(linear.component))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return ModelSpec(
        family, parameters, build_groups(linears, granularity), tuple(left)
    )


def _placed(
    name: str, child: Any, places: Sequence[Place]
) -> tuple[Linear, str] | None:
    for place in places:
        found = re.fullmatch(place.pattern, name)
        if found:
            block = found.groupdict().get("block")
            return (
                Linear(
                    name,
                    place.component,
                    None if block is None else int(block),
                    place.type,
                    child.out_features,
                    child.in_features,
                ),
                place.pattern,
            )
    return None


def _left(family: str, name: str, child: Any, rests: Sequence[Rest]) -> LeftOut:
    for rest in rests:
        if re.fullmatch(rest.pattern, name):
            return LeftOut(name, child.weight.numel(), rest.reason)
    raise SpecError(
        f"family {family!r} does not know the linear layer {name!r}; "
        "it is neither in a group nor named as left out"
    )


def siblings(prefix: str, names: str, fold: str | None = None) -> Siblings:
    """Linears `prefix.name` for each name, folding into `prefix.fold`."""
    return Siblings(
        tuple(f"{prefix}.{name}" for name in names.split()),
        None if fold is None else f"{prefix}.{fold}",
    )
