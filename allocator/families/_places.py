"""Which linear of a module belongs where: patterns on full names, never guesses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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
from allocator.core.weights import TRANSPOSED

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
    coded = {id(module.get_submodule(name).weight) for name in extras}
    matrices = list(_matrices(module))
    for each in matrices:
        if each.names[0] in extras:
            continue
        place = _place(each, places)
        if place is None:
            left += _left(family, each, rests)
            continue
        linears += _linears(each, place)
        unmatched.discard(place.pattern)
        coded.add(id(each.parameter))
    named = {name for each in matrices for name in each.names}
    left += _routers(module, rests, named)
    _check(family, linears, [p for p in places if p.pattern in unmatched])
    linears += extras.values()
    linears.sort(key=lambda linear: COMPONENTS.index(linear.component))
    parameters = sum(value.numel() for _, value in _stored(module))
    return ModelSpec(
        *(family, parameters, build_groups(linears, granularity), tuple(left)),
        *_head(module),
        _others(module, coded),
        module.config.model_type,
    )


def _check(family: str, linears: Sequence[Linear], unmatched: Sequence[Place]) -> None:
    """Refuse places without linears, and linears without weights.

    Raises:
        SpecError: there are some.
    """
    if unmatched:
        parts = {f"{place.component} {place.type}" for place in unmatched}
        raise SpecError(
            f"family {family!r}: this model has no linear layers where those of "
            f"{', '.join(sorted(parts))} should be"
        )
    empty = [linear.name for linear in linears if not linear.weights]
    if empty:
        raise SpecError(f"the linear layer {empty[0]!r} has no weights")


class _Matrices(NamedTuple):
    """What one parameter holds: the matrix of a linear, or those of a block's experts.

    Attributes:
        names: full names of the linears.
        shape: [out, in] of each.
        parameter: that holds them.
    """

    names: tuple[str, ...]
    shape: tuple[int, int]
    parameter: Any


def _matrices(module: Any) -> Iterator[_Matrices]:
    """The weights of all linears, those of experts among them."""
    from torch import nn

    for path, child in module.named_modules():
        if isinstance(child, nn.Linear):
            out, columns = child.weight.shape
            yield _Matrices((path,), (out, columns), child.weight)
            continue
        for stack in stacks(child):
            own = getattr(child, stack)
            count, out, columns = own.shape
            if getattr(child, TRANSPOSED, False):
                out, columns = columns, out
            names = tuple(f"{path}.{stack}.{number}" for number in range(count))
            yield _Matrices(names, (out, columns), own)


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
    module: Any, coded: Collection[int]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of all parameters but the linears' weights, tied ones once.

    Those are told by identity: a tied matrix goes by the name of the embeddings.
    """
    return tuple(
        (name, tuple(value.shape))
        for name, value in _stored(module)
        if id(value) not in coded
    )


def _stored(module: Any) -> Iterator[tuple[str, Any]]:
    """Parameters, and the buffers that checkpoints hold, by full name; each once."""
    yield from module.named_parameters()
    stored = module.state_dict()
    yield from ((n, each) for n, each in module.named_buffers() if n in stored)


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


def _place(matrices: _Matrices, places: Sequence[Place]) -> Place | None:
    """Where matrices belong; experts of a block belong together."""
    for place in places:
        if re.fullmatch(place.pattern, matrices.names[0]):
            return place
    return None


def _linears(matrices: _Matrices, place: Place) -> list[Linear]:
    """The linears that are in a place."""
    found = re.fullmatch(place.pattern, matrices.names[0])
    number = None if found is None else found.groupdict().get("block")
    block = None if number is None else place.before + int(number)
    return [
        Linear(
            *(name, place.component, block, place.type, *matrices.shape),
            is_expert=matrices.parameter.dim() == 3,
        )
        for name in matrices.names
    ]


def _left(family: str, matrices: _Matrices, rests: Sequence[Rest]) -> list[LeftOut]:
    """What stays at 16 bit, and why."""
    first, weights = matrices.names[0], math.prod(matrices.shape)
    for rest in rests:
        if re.fullmatch(rest.pattern, first):
            return [LeftOut(name, weights, rest.reason) for name in matrices.names]
    raise SpecError(
        f"family {family!r} does not know the linear layer {first!r}; "
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
