"""Which linear of a module belongs where: patterns on full names, never guesses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.ports import Siblings
from allocator.core.spec import (
    COMPONENTS,
    EXTRAS,
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

    The pattern's group `block`, if it has one, is the block's number; `before` are the
    component's blocks in front of these.
    """

    pattern: str
    component: Component
    type: str = "all"
    before: int = 0


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
    include: Sequence[str] = (),
) -> ModelSpec:
    """Put every linear of a module (its weights may be on "meta") in its place.

    `include` adds groups for what is otherwise left at 16 bit: "head" and "embeddings".
    Where both are one matrix, either name means it.

    Raises:
        SpecError: a linear matches no pattern, or a pattern no linear.
    """
    from torch import nn

    extras = _extras(family, module, include)
    linears: list[Linear] = []
    left: list[LeftOut] = []
    unmatched = {place.pattern for place in places}
    for name, child in module.named_modules():
        if not isinstance(child, nn.Linear) or name in extras:
            continue
        placed = _placed(name, child, places)
        if placed:
            linears.append(placed[0])
            unmatched.discard(placed[1])
        else:
            left.append(_left(family, name, child, rests))
    if unmatched:
        parts = {f"{p.component} {p.type}" for p in places if p.pattern in unmatched}
        raise SpecError(
            f"family {family!r}: this model has no linear layers where those of "
            f"{', '.join(sorted(parts))} should be"
        )
    empty = [linear.name for linear in linears if not linear.weights]
    if empty:
        raise SpecError(f"the linear layer {empty[0]!r} has no weights")
    linears += extras.values()
    linears.sort(key=lambda linear: COMPONENTS.index(linear.component))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return ModelSpec(
        *(family, parameters, build_groups(linears, granularity), tuple(left)),
        *_head(module),
        _others(module, linears),
        module.config.model_type,
    )


def _others(
    module: Any, linears: Sequence[Linear]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of all parameters but the linears' weights, tied ones once."""
    # by identity: a tied matrix goes by the name of the embeddings
    coded = {id(module.get_submodule(linear.name).weight) for linear in linears}
    return tuple(
        (name, tuple(parameter.shape))
        for name, parameter in module.named_parameters()
        if id(parameter) not in coded
    )


def head_and_embeddings(module: Any) -> dict[str, str]:
    """Full names of the output head and the input embeddings, where they have weights.

    The embeddings have no entry where the head is the same matrix.
    """
    names = {child: name for name, child in module.named_modules()}
    head, words = module.get_output_embeddings(), module.get_input_embeddings()
    found = {} if head is None else {"head": names[head]}
    if words is not None and (head is None or words.weight is not head.weight):
        found["embeddings"] = names[words]
    return found


def _head(module: Any) -> tuple[int, bool]:
    """Weights of the output head, and whether the embeddings are the same matrix."""
    here = head_and_embeddings(module)
    if "head" not in here or module.get_input_embeddings() is None:
        return 0, False
    return module.get_output_embeddings().weight.numel(), "embeddings" not in here


def _extras(family: str, module: Any, include: Sequence[str]) -> dict[str, Linear]:
    """Linears to include beside the blocks', by full name."""
    if not include:
        return {}
    here = head_and_embeddings(module)
    if "head" not in here:
        raise SpecError(f"this {family} model has no output head to include")
    # tied embeddings are the head
    kinds = {kind if kind in here else "head" for kind in include}
    return {
        here[kind]: Linear(
            here[kind],
            "language",
            None,
            kind,
            *module.get_submodule(here[kind]).weight.shape,
        )
        for kind in EXTRAS
        if kind in kinds
    }


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
                    None if block is None else place.before + int(block),
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


def siblings(
    prefix: str, names: str, fold: str | None = None, mask: str | None = None
) -> Siblings:
    """Linears `prefix.name` for each name, folding into `prefix.fold`."""
    return Siblings(
        tuple(f"{prefix}.{name}" for name in names.split()),
        None if fold is None else f"{prefix}.{fold}",
        mask,
    )


def embeddings_read(module: Any) -> tuple[Siblings, ...]:
    """The input embeddings as what a stage quantizes, unless the head is the same."""
    extras = head_and_embeddings(module)
    return (Siblings((extras["embeddings"],)),) if "embeddings" in extras else ()
