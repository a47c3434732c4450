"""Cuts of a forward pass: places whose states are kept, and what decides the states.

A cut stands where the groups change that the next linears belong to, and behind each
component of the prefix. What reaches it depends on the choices in front alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.bench.in_place import applied_digest
from allocator.core.allocation import digest
from allocator.core.spec import EXTRAS
from allocator.core.weights import key_of
from quant.finalized import Finalized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.bench.in_place import Cells
    from allocator.core.allocation import Choice
    from allocator.core.ports import Model, Stage
    from allocator.core.spec import Linear, ModelSpec


@dataclass(frozen=True)
class Cuts:
    """Where the stages of a model are cut.

    Attributes:
        stages: all of them, in order of execution.
        first_read: for each stage the linears in groups that none before it reads.
        places: the cuts, as numbers of stages in front, ascending.
        ends: those of them behind a component of the prefix.
    """

    stages: tuple[Stage, ...]
    first_read: tuple[tuple[Linear, ...], ...]
    places: tuple[int, ...]
    ends: tuple[int, ...]

    @staticmethod
    def of(model: Model, spec: ModelSpec) -> Cuts:
        """Cuts between the groups of a model."""
        stages = model.stages()
        first_read = tuple(_first_read(model, stages, spec))
        key_of = {x.name: group.key for group in spec.groups for x in group.linears}
        ends = tuple(
            sum(stage.component in model.prefix[:at] for stage in stages)
            for at in range(1, len(model.prefix) + 1)
        )
        places, last = set(ends), set[str]()
        for at, own in enumerate(first_read):
            # behind an end nothing was read yet that it does not know
            last = set() if at in ends else last
            here = {key_of[linear.name] for linear in own}
            if last and here and here != last:
                places.add(at)
            last = here or last
        return Cuts(stages, first_read, tuple(sorted(places)), ends)

    @property
    def prefix(self) -> int:
        """Stages of the prefix."""
        return self.ends[-1] if self.ends else 0

    @property
    def linears(self) -> list[Linear]:
        """Linears in groups, in order of execution."""
        return [linear for own in self.first_read for linear in own]

    def depths(self, spec: ModelSpec) -> dict[str, int]:
        """How many linears are read before the first of each group of a model."""
        places = {linear.name: at for at, linear in enumerate(self.linears)}
        return {g.key: min(places[x.name] for x in g.linears) for g in spec.groups}

    def blocks(self, begin: int, end: int) -> int:
        """Stages with linears of their own among some in a row."""
        return sum(bool(own) for own in self.first_read[begin:end])

    def names(
        self, wanted: Mapping[str, Choice], cells: Cells | None, *, has_changed: bool
    ) -> dict[int, str]:
        """By cut, a name of what the stages in front of it have.

        Of a bank equal choices are equal cells. Finalized weights have others for each
        allocation, and folding has changed more than linears.

        Args:
            wanted: bits and method of each linear, by full name.
            cells: where these come from.
            has_changed: whether parameters without a cell are others than at full
                precision, as folding has all of them rounded.
        """
        found: dict[int, str] = {}
        before, name = 0, digest(has_changed)
        for place in self.places:
            own = [x for each in self.first_read[before:place] for x in each]
            said: list[object] = [name]
            if isinstance(cells, Finalized):
                said += [applied_digest(own, wanted, cells)]
                said += [_changed(self.stages[before:place], cells)]
            else:
                said += [[x.name, str(wanted[x.name])] for x in own]
            found[place] = name = digest(said)
            before = place
        return found


def _first_read(
    model: Model, stages: Sequence[Stage], spec: ModelSpec
) -> list[tuple[Linear, ...]]:
    """The linears that each stage is the first to read.

    Embeddings and head may be one matrix, so those are told by the parameter itself.
    """
    parameters = dict(model.module.named_parameters(remove_duplicate=False))
    found: list[list[Linear]] = [[] for _ in stages]
    first: dict[str, int] = {}
    for at, stage in enumerate(stages):
        for name in stage.linears:
            first.setdefault(name, at)
    for linear in spec.linears:
        places = [first[linear.name]] if linear.name in first else []
        if linear.type in EXTRAS or not places:
            own = parameters[key_of(model.module, linear.name)]
            names = [name for name, value in parameters.items() if value is own]
            places += [at for at, each in enumerate(stages) if _uses(each, names)]
        found[min(places)].append(linear)
    return [tuple(own) for own in found]


def _uses(stage: Stage, names: Sequence[str]) -> bool:
    starts = tuple(f"{name}." for name in stage.uses)
    return any(name in stage.uses or name.startswith(starts) for name in names)


def _changed(stages: Sequence[Stage], cells: Finalized) -> dict[str, str]:
    """Checksums of what folding changed in some stages."""
    return {
        name: value
        for name, value in cells.changed_sums.items()
        if any(_uses(stage, [name]) for stage in stages)
    }
