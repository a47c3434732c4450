"""What a model is made of: linears, the groups that are decided together, the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

Component = Literal["vision", "connector", "language"]
Granularity = Literal["component", "group", "type", "block"]

COMPONENTS: tuple[Component, ...] = ("vision", "connector", "language")
GRANULARITIES: tuple[Granularity, ...] = ("component", "group", "type", "block")
PARTS = ("front", "middle", "end")
# layer types that are in groups only if asked for, and then alone
EXTRAS = ("head", "embeddings")
# parameters from which on fewer things are tried of a model, and fewer samples at once
LARGE = 10**8


@dataclass(frozen=True)
class Linear:
    """One weight matrix of shape [out_features, in_features].

    `block` is its place in the component, None where the component has no blocks;
    `type` is "attn", "ff", one of `EXTRAS`, or "all" where there is no such split. Of
    an expert the weight is a slice of a parameter (`allocator.core.weights`).
    """

    name: str
    component: Component
    block: int | None
    type: str
    out_features: int
    in_features: int
    is_expert: bool = False

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.out_features * self.in_features


@dataclass(frozen=True)
class Group:
    """One decision variable: linears that always get the same bits and method."""

    key: str
    linears: tuple[Linear, ...]

    def __post_init__(self) -> None:
        if not self.linears:
            raise SpecError(f"group {self.key!r} matches no linear layer")

    @property
    def component(self) -> str:
        """The component the group belongs to."""
        return self.key.split(".", maxsplit=1)[0]

    @property
    def weights(self) -> int:
        """Number of weights in all its linears."""
        return sum(linear.weights for linear in self.linears)


@dataclass(frozen=True)
class LeftOut:
    """A linear that stays at 16 bit, and why."""

    name: str
    weights: int
    reason: str


@dataclass(frozen=True)
class ModelSpec:
    """A model as the search sees it.

    `parameters` counts every parameter once, tied weights once. `head` are the weights
    of its output head (0: it has none beside its embeddings), and `tied` says that this
    is the matrix of the embeddings. `others` are names and shapes of the parameters
    outside the groups' weights, tied ones once; `model_type` is that of config.json.
    """

    family: str
    parameters: int
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    head: int = 0
    tied: bool = False
    others: tuple[tuple[str, tuple[int, ...]], ...] = ()
    model_type: str = ""

    def __post_init__(self) -> None:
        names = Counter(linear.name for linear in self.linears)
        names.update(left.name for left in self.left_out)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise SpecError(f"linears placed more than once: {', '.join(twice)}")
        if len({group.key for group in self.groups}) < len(self.groups):
            raise SpecError("two groups have the same key")

    @property
    def linears(self) -> tuple[Linear, ...]:
        """All linears in groups, in group order."""
        return tuple(linear for group in self.groups for linear in group.linears)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Group keys in order."""
        return tuple(group.key for group in self.groups)

    def by_linear(self, fused: Sequence[Sequence[str]] = ()) -> ModelSpec:
        """The same model with a group for each linear, `component.full.name`.

        Linears that have to have one choice, by full name, share a group: that of the
        first of them.
        """
        leaders = {name: own[0] for own in fused for name in own}
        members: dict[str, list[Linear]] = {}
        for linear in self.linears:
            leader = leaders.get(linear.name, linear.name)
            members.setdefault(f"{linear.component}.{leader}", []).append(linear)
        groups = tuple(Group(key, tuple(found)) for key, found in members.items())
        return replace(self, groups=groups)

    @property
    def is_large(self) -> bool:
        """Whether it has LARGE parameters or more: what it takes decides then."""
        return self.parameters >= LARGE

    @property
    def weights(self) -> int:
        """Number of weights in groups."""
        return sum(group.weights for group in self.groups)

    @property
    def rest(self) -> int:
        """Parameters outside the groups, kept at 16 bit."""
        return self.parameters - self.weights


def part_of(block: int, blocks: int) -> str:
    """Name the contiguous third a block lies in, cut at floor(i n / 3).

    Fewer than three blocks are not split.

    >>> [part_of(i, 4) for i in range(4)]
    ['front', 'middle', 'end', 'end']
    >>> part_of(0, 2)
    'all'
    """
    if blocks < len(PARTS):
        return "all"
    cuts = [i * blocks // 3 for i in (1, 2)]
    return PARTS[sum(block >= cut for cut in cuts)]


def group_key(linear: Linear, blocks: int, granularity: Granularity) -> str:
    """Key `component.part.type` of the group a linear falls into."""
    part, kind = "all", "all"
    if linear.block is not None:
        if granularity in ("group", "type"):
            part = part_of(linear.block, blocks)
        elif granularity == "block":
            part = f"{linear.block:02d}"
    if granularity in ("type", "block") or linear.type in EXTRAS:
        kind = linear.type
    return f"{linear.component}.{part}.{kind}"


def build_groups(
    linears: Sequence[Linear], granularity: Granularity = "type"
) -> tuple[Group, ...]:
    """Gather linears into groups, in the order their first linear appears."""
    if granularity not in GRANULARITIES:
        raise SpecError(
            f"granularity {granularity!r} is not one of {', '.join(GRANULARITIES)}"
        )
    blocks: dict[str, int] = {}
    for linear in linears:
        if linear.block is not None:
            blocks[linear.component] = max(
                blocks.get(linear.component, 0), linear.block + 1
            )
    members: dict[str, list[Linear]] = {}
    for linear in linears:
        key = group_key(linear, blocks.get(linear.component, 0), granularity)
        members.setdefault(key, []).append(linear)
    return tuple(Group(key, tuple(found)) for key, found in members.items())
