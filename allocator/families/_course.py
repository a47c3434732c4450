"""In which order a forward pass comes to rows of blocks and to linears outside them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allocator.core.spec import Component
    from allocator.families._structure import Outside, Structure


HEAD = "head"  # stands for the output head among rows


@dataclass(frozen=True)
class Course:
    """What a forward pass comes to, as a small model of the same kind has shown.

    Attributes:
        order: paths of rows and names of linears outside (`key_of`), by first call.
        masks: by row (or `HEAD`), the key of the mask of its inputs.
        several: rows that are called more than once.
        again: rows between whose blocks something happens.
        prefix: components in front of all others that the words do not change.
    """

    order: tuple[str, ...]
    masks: Mapping[str, str | None] = field(default_factory=dict)
    several: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    prefix: tuple[Component, ...] = ()


@dataclass(frozen=True)
class Part:
    """What runs outside the blocks, between two rows: a stage.

    Attributes:
        name: of the stage.
        component: that its linears, or else the next row, belong to.
        outside: numbers of the linears outside that run here.
        next_row: number of the row that comes next; behind the last one there is none.
        enters: whether that row's blocks come directly behind.
        reads_words: whether the input embeddings are looked up here.
    """

    name: str
    component: Component
    outside: tuple[int, ...]
    next_row: int
    enters: bool
    reads_words: bool = False


def key_of(name: str) -> str:
    """A linear's name without numbers: a small model has fewer in a list."""
    return re.sub(r"\d+", "#", name)


def parts_of(structure: Structure, course: Course) -> tuple[Part, ...]:
    """All stages that are no blocks, in order.

    Raises:
        ModelError: a linear outside the blocks that the small model did not come to.
    """
    count = len(structure.rows)
    found: list[Part] = []
    for at in range(count + 1):
        last: Component = "language" if at == count else structure.rows[at].component
        runs = list(_runs(structure, course, at))
        if not runs or runs[-1][0] != last:
            runs.append((last, ()))
        for n, (component, outside) in enumerate(runs):
            ending = "" if n < len(runs) - 1 else ".head" if at == count else ".embed"
            name, known = f"{component}{ending}", {part.name for part in found}
            name = f"{name}.{at}.{n}" if name in known else name
            found.append(Part(name, component, outside, at, enters=bool(ending)))
    return _with_words(found, structure)


def _runs(
    structure: Structure, course: Course, at: int
) -> Iterator[tuple[Component, tuple[int, ...]]]:
    """Linears between a row and the one before it, by component as they change."""
    places = {n: _place(x, structure, course) for n, x in enumerate(structure.outside)}
    here = [n for n, place in places.items() if place[0] == at]
    here.sort(key=places.__getitem__)
    for component, own in groupby(here, lambda n: structure.outside[n].component):
        yield component, tuple(own)


def _place(each: Outside, structure: Structure, course: Course) -> tuple[int, int]:
    """How many rows are in front of a linear, and its place in the order."""
    names = each.readers.names.split()
    found = [course.order.index(k) for k in map(key_of, names) if k in course.order]
    if not found:
        raise ModelError(
            f"nothing is known of when {names[0]} runs: a small model of the same kind "
            "does not come to it"
        )
    rows = {row.path for row in structure.rows}
    return len(rows.intersection(course.order[: found[0]])), found[0]


def _with_words(parts: list[Part], structure: Structure) -> tuple[Part, ...]:
    """Words are looked up in front of the first row that reads them."""
    rows = [n for n, row in enumerate(structure.rows) if row.component == "language"]
    first = min(rows, default=len(structure.rows))
    return tuple(
        replace(each, reads_words=each.enters and each.next_row == first)
        for each in parts
    )
