"""What making quantized weights takes: bytes on the disk, in memory, on a device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.allocation import linear_bytes
from allocator.core.memory import share
from quant.chunks import column_bytes
from quant.streaming import HELD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allocator.core.allocation import Scheme
    from allocator.core.spec import Linear
    from quant.assignment import Assignment
    from quant.bank import Recipe


# bytes of a weight while its rounding is learned
LEARNED = 32


@dataclass(frozen=True)
class Needs:
    """Bytes that making what a bank lacks takes at most.

    Attributes:
        disk: of files.
        host: of memory at a time, without what files are mapped into, and without what
            a process takes that does nothing.
        device: of memory on the accelerator; 0 where there is none.
    """

    disk: int
    host: int
    device: int


def stored_bytes(linear: Linear, scheme: Scheme, bits: int) -> int:
    """Bytes that a linear's cell takes on the disk, at most."""
    # AWQ's scale has an fp16 number for each input; so has a norm that it folds into
    return linear_bytes(linear, scheme, bits, "none") + 2 * linear.in_features


def missing_bytes(
    recipe: Recipe, linears: Iterable[Linear], lacking: Mapping[str, Sequence[str]]
) -> int:
    """Bytes that missing cells of a bank will take at most: equal ones are stored once.

    Args:
        recipe: what the cells are to be.
        linears: all those of the model.
        lacking: names of the missing cells of each, by its name.
    """
    kept = recipe.stored_keys
    return sum(
        stored_bytes(linear, recipe.scheme, bits_of(key))
        for linear in linears
        for key in lacking.get(linear.name, ())
        if key in kept
    )


def bits_of(key: str) -> int:
    """The width of a cell by its name in a file."""
    return int(key.rsplit(".", 1)[1])


def finalized_bytes(wanted: Assignment, linears: Iterable[Linear]) -> int:
    """Bytes that finalized weights will take at most."""
    keys = wanted.keys
    return sum(
        stored_bytes(linear, wanted.recipe.scheme, wanted.choices[linear.name].bits)
        for linear in linears
        if linear.name in keys
    )


def building(
    recipe: Recipe,
    linears: Sequence[Linear],
    lacking: Mapping[str, Sequence[str]],
    device: str = "cpu",
    held: int | None = None,
) -> Needs:
    """What making the missing cells of a bank takes.

    A stage runs with its weights in memory and a Hessian for each input that is read,
    then its sibling sets are solved one by one. Which linears those are no spec says:
    all of a block that have as many inputs count as one, but for experts, each of which
    is a set, and has another Hessian beside it: what all of them read, or a mixture.
    Activations count as far as
    they are held between stages; those of the batch that runs come on top.

    Args:
        recipe: what the cells are to be.
        linears: all those of the model.
        lacking: names of the missing cells of each, by its name.
        device: where they are made.
        held: bytes of activations that are held between stages; None: as is usual.
    """
    held = share(1 / 16, HELD_BYTES) if held is None else held
    kept = recipe.stored_keys
    stages: dict[tuple[str, int | None], list[Linear]] = {}
    for linear in linears:
        if not kept.isdisjoint(lacking.get(linear.name, ())):
            stages.setdefault((linear.component, linear.block), []).append(linear)
    on_cpu = device.startswith("cpu")
    # a stage runs in float32 on a CPU, else in 16 bits; what is solved there is mapped
    running_bytes, solved_bytes = (4, 0) if on_cpu else (2, 2)
    computed = packed = 0
    for stage in stages.values():
        moments = sum(4 * linear.in_features**2 for linear in stage)
        pooled = {x.in_features for x in stage if x.is_expert}
        moments += sum(2 * 4 * features**2 for features in pooled)
        running = running_bytes * sum(linear.weights for linear in stage)
        for own in _sets(stage):
            rows, features = sum(x.out_features for x in own), own[0].in_features
            solving = _solving(rows, features, len(recipe.low), device)
            solving += solved_bytes * rows * features
            computed = max(computed, held + moments + max(running, solving))
            packed = max(packed, missing_bytes(recipe, own, lacking))
    disk = missing_bytes(recipe, linears, lacking)
    if on_cpu:
        return Needs(disk, computed + packed, 0)
    return Needs(disk, packed, computed)


def tuning_bytes(linears: Iterable[Linear]) -> int:
    """Bytes of memory that learning the rounding of a stage takes, at most.

    Of each weight in float32 what it stands for, what it is, its gradient and their
    sum, its offset, how that moves, and what is decoded and packed of it. Those of
    experts are not learned.
    """
    stages: Counter[tuple[str, int | None]] = Counter()
    for linear in linears:
        if not linear.is_expert:
            stages[linear.component, linear.block] += linear.weights
    return LEARNED * max(stages.values(), default=0)


def _sets(stage: Iterable[Linear]) -> list[list[Linear]]:
    """Linears of a block that count as solved together; of equal experts one."""
    found: dict[tuple[int, ...], list[Linear]] = {}
    for linear in stage:
        shape = linear.out_features, linear.in_features
        if linear.is_expert:
            found[shape] = [linear]
        else:
            found.setdefault(shape[1:], []).append(linear)
    return list(found.values())


def _solving(rows: int, features: int, widths: int, device: str) -> int:
    """Bytes that solving one sibling set takes beside its Hessian and its weights."""
    numbers = rows * features * widths
    # the Hessian in float64 and its factor; then the factor and the damped Hessian,
    # codes of all widths, and of the columns solved at a time themselves, what they
    # were rounded to, what is left to polish, and codes twice
    factoring = 12 * features**2
    columns = min(4 * numbers, column_bytes(device))
    return max(factoring, 8 * features**2 + numbers + columns * 14 // 4)
