"""Allocations from files that take part in a search: read, and held against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allocator.bench.imports import imported, is_plan, tell
from allocator.core.allocation import FULL, Allocation
from allocator.core.errors import BudgetError, SpecError
from allocator.core.holding import check_fused
from allocator.core.pins import in_words
from allocator.core.plan import Plan
from allocator.core.spec import GRANULARITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allocator.core.allocation import Choice
    from allocator.core.spec import Granularity, ModelSpec
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch
    from allocator.space.model import ModelSpace

Named = tuple[str, Allocation]


def read_candidates(
    asked: StudySpec,
    space: ModelSpace,
    spec_at: Callable[[Granularity], ModelSpec],
    watch: Watch | None = None,
) -> tuple[Named, ...]:
    """The allocations that a search is given, by the names of their files.

    Args:
        asked: names the files, and the methods that may be used.
        space: what they have to keep: budget, widths, methods and pins.
        spec_at: the same model at another granularity, for plans that were made so.
        watch: is told what is taken otherwise than the files have it.

    Raises:
        SpecError: a file that cannot be read, is given twice, or has what this search
            may not choose.
        BudgetError: one that is over the budget.
    """
    found: dict[str, Allocation] = {}
    for name in asked.candidates:
        if name in found:
            raise SpecError(f"candidate {name} is given twice")
        file = Path(name).expanduser()
        if is_plan(file):
            chosen = _of_plan(file, spec_at)
        else:
            read = imported(file, space.spec, space.scheme, asked.methods)
            chosen = read.choices
            if watch is not None:
                tell(read, watch)
        found[name] = Allocation.from_linears(space.spec, chosen)
        _check_allowed(name, chosen, space)
        try:
            check_fused(space.spec, space.scheme, chosen)
        except SpecError as error:
            raise SpecError(f"candidate {name}: {error}") from None
        _check_size(name, found[name], space)
    return tuple(found.items())


def _of_plan(
    file: Path, spec_at: Callable[[Granularity], ModelSpec]
) -> Mapping[str, Choice]:
    """Bits and method of every linear, as a plan of ours has them.

    Raises:
        SpecError: its groups are those of no granularity.
    """
    plan = Plan.read(file)
    for granularity in GRANULARITIES:
        spec = spec_at(granularity)
        if set(plan.groups) == set(spec.keys):
            return plan.allocation(spec).of_linears(spec)
    raise SpecError(
        f"candidate {file} was made for {plan.model} and has other groups than this "
        "model; `allocate inspect` lists them"
    )


def _check_allowed(name: str, chosen: Mapping[str, Choice], space: ModelSpace) -> None:
    """Refuse what is no choice of this search, or not where it is pinned."""
    for group in space.spec.groups:
        for linear in group.linears:
            choice = chosen[linear.name]
            if choice in space.allowed[group.key]:
                continue
            given = f"candidate {name} has {choice} for {linear.name}"
            pins = in_words(space.pins.to_json())
            if choice in space.choices:
                raise SpecError(f"{given}, which the pins {pins} exclude")
            option = "--widths" if _is_other_width(choice, space) else "--methods"
            raise SpecError(
                f"{given}, which this search may not choose: change {option}"
            )


def _is_other_width(choice: Choice, space: ModelSpace) -> bool:
    widths = {each.bits for each in space.choices}
    return choice.bits == FULL or choice.bits not in widths


def _check_size(name: str, allocation: Allocation, space: ModelSpace) -> None:
    budget, size = space.budget, space.size(allocation)
    if not budget.fits(space.spec, size):
        scope = budget.scope
        raise BudgetError(
            f"candidate {name} has {size.bpw(scope):.4f} bpw "
            f"({size.stored(scope):,} bytes; {scope} scope), over the budget of "
            f"{budget.bpw(space.spec):.4f} bpw ({budget.bytes(space.spec):,.0f} bytes)"
        )
