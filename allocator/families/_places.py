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
from allocator.core.weights import key_of, slice_of, weight_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


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

    Each expert is a linear of its own (`allocator.core.weights`). `include` adds groups
    for what is otherwise left at 16 bit: "head" and "embeddings". Where both are one
    matrix, either name means it.

    Raises:
        SpecError: a linear matches no pattern, or a pattern no linear.
    """
    extras = _extras(family, module, include)
    linears: list[Linear] = []
    left: list[LeftOut] = []
    unmatched = {place.pattern for place in places}
    matrices = list(_matrices(module))
    for name, weight in matrices:
        if name in extras:
            continue
        placed = _placed(module, name, weight, places)
        if placed:
            linears.append(placed[0])
            unmatched.discard(placed[1])
        else:
            left.append(_left(family, name, weight, rests))
    left += _routers(module, rests, {name for name, _ in matrices})
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


def _matrices(module: Any) -> Iterator[tuple[str, Any]]:
    """Weights [out, in] of all linears, those of experts among them, by full name."""
    from torch import nn

    for path, child in module.named_modules():
        if isinstance(child, nn.Linear):
            yield path, child.weight
            continue
        for stack in stacks(child):
            name = f"{path}.{stack}"
            for number in range(len(getattr(child, stack))):
                yield f"{name}.{number}", weight_of(module, f"{name}.{number}")


def stacks(child: Any) -> list[str]:
    """Names of the parameters of a module that hold a matrix for each of its experts.

    Those of torch's own modules are convolutions; a single one is no stack, and
    embeddings are looked up.
    """
    if type(child).__module__.startswith("torch."):
        return []
    own = child.named_parameters(recurse=False)
    return [
        name
        for name, each in own
        if each.dim() == 3 and min(each.shape) > 1 and "embedding" not in name
    ]


def _routers(
    module: Any, rests: Sequence[Rest], linears: Collection[str]
) -> Iterator[LeftOut]:
    """Matrices that are no linear layers, as far as they are named as left out."""
    for path, weight in module.named_parameters():
        name, _, last = path.rpartition(".")
        if weight.dim() != 2 or last != "weight" or name in linears:
            continue
        for rest in rests:
            if re.fullmatch(rest.pattern, name):
                yield LeftOut(name, weight.numel(), rest.reason)
                break


def _others(
    module: Any, linears: Sequence[Linear]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of all parameters but the linears' weights, tied ones once."""
    # by identity: a tied matrix goes by the name of the embeddings
    coded = {id(module.get_parameter(key_of(module, x.name))) for x in linears}
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
    module: Any, name: str, weight: Any, places: Sequence[Place]
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
                    *weight.shape,
                    is_expert=slice_of(module, name) is not None,
                ),
                place.pattern,
            )
    return None


def _left(family: str, name: str, weight: Any, rests: Sequence[Rest]) -> LeftOut:
    for rest in rests:
        if re.fullmatch(rest.pattern, name):
            return LeftOut(name, weight.numel(), rest.reason)
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
