"""What was found in a small model, carried over to one of full size."""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.families._chains import linears_in
from allocator.families._places import Rest
from allocator.families._structure import (
    MATRIX,
    UNPLACED,
    Outside,
    Structure,
    named_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from allocator.families._blocks import Readers, Row

    Sizes = Mapping[str, tuple[int, ...]]

# of the weights of all linears, at most so many may stay at 16 bits with no better
# reason than that they are few
SMALL = 0.02
# a linear that gives so few channels, and so many times fewer than it reads, says how
# much of something there is; keys of a single head may be as few as a part of it
FEW, FEWER = 128, 16
GATES = "a gate of few channels, kept at 16 bit"
SHOWN = 8


def fitted(structure: Structure, module: Any, most: float = SMALL) -> Structure:
    """A structure with the counts of another module of the same architecture.

    Rows have as many blocks as that has, and so have lists within blocks and outside
    rows. Linears that are gates there stay at 16 bits.

    Args:
        structure: of a smaller module.
        module: its weights may be on "meta".
        most: share of the weights that may have no place: of a small module, whose
            widths are not in proportion, all.

    Raises:
        SpecError: more than that have none.
    """
    sizes = _sizes(module)
    rows, gates, counts = [], [], []
    for row in structure.rows:
        within = _within(row, sizes)
        counts.append(len(within))
        known = {name for block in within for name in block}
        readers = _grown(row.readers, known)
        few = _gates(readers, within, sum(map(prod, sizes.values())))
        rows.append(replace(row, readers=tuple(_without(few, readers))))
        path = re.escape(row.path)
        gates += [Rest(rf"{path}\.\d+\.{re.escape(name)}", GATES) for name in few]
    outside = tuple(
        Outside(component, readers)
        for component in dict.fromkeys(each.component for each in structure.outside)
        for readers in _grown(
            [x.readers for x in structure.outside if x.component == component],
            set(sizes),
        )
    )
    found = Structure(
        tuple(rows),
        tuple(_reads(structure, module, counts)),
        outside,
        (*structure.rests, *gates),
    )
    unplaced = _unplaced(found, tuple(counts), sizes)
    bare = _bare(found, module)
    _refuse_more(most, {**bare, **unplaced}, {**bare, **sizes})
    named = [re.compile(each.pattern) for each in found.rests]
    further = (
        Rest(rf"{re.escape(name)}(\.\d+)?", UNPLACED)
        for name in unplaced
        if not any(each.fullmatch(name) for each in named)
    )
    return replace(found, rests=(*found.rests, *further))


def _reads(
    structure: Structure, module: Any, counts: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Of each row the numbers of the blocks that are read, in a module's own count."""
    named = structure.named or (False,) * len(counts)
    for reads, by_name, count in zip(structure.reads, named, counts, strict=True):
        if by_name:
            found = named_blocks(module.config.to_dict(), count)
            yield tuple(sorted(found.union(number % count for number in reads)))
        else:
            yield reads or tuple(range(count))


def _sizes(module: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of linears, and of parameters of experts, by full name."""
    from torch import nn

    found = {}
    for name in linears_in(module):
        owner, _, last = name.rpartition(".")
        of = getattr(module.get_submodule(owner), last)
        found[name] = tuple((of.weight if isinstance(of, nn.Linear) else of).shape)
    return found


def _within(row: Row, sizes: Sizes) -> list[dict[str, tuple[int, ...]]]:
    """For each block of a row the sizes of its linears, by names within it."""
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, size in sizes.items():
        if name.startswith(f"{row.path}."):
            number, _, rest = name.removeprefix(f"{row.path}.").partition(".")
            found.setdefault(int(number), {})[rest] = size
    return [found.get(number, {}) for number in range(max(found, default=-1) + 1)]


def _grown(readers: Sequence[Readers], known: Collection[str]) -> list[Readers]:
    """Sets with those of further elements of the lists that they are in.

    Args:
        readers: of a smaller module.
        known: names of all linears of this one, those of other sets too.
    """
    found = [each for each in readers if set(each.names.split()) & set(known)]
    numbers: dict[str, set[str]] = {}
    for name in known:
        steps = name.split(".")
        for place, step in enumerate(steps):
            if step.isdigit():
                numbers.setdefault(".".join(steps[:place]), set()).add(step)
    for prefix in sorted(numbers, key=lambda path: path.count(".")):
        covered = {name for each in found for name in each.names.split()}
        for each in list(found):
            for other in _others(each, prefix, sorted(numbers[prefix], key=int)):
                names = set(other.names.split())
                if names <= set(known) and not names & covered:
                    covered |= names
                    found.append(other)
    return found


def _others(readers: Readers, prefix: str, numbers: Sequence[str]) -> Iterator[Readers]:
    """The same set in the other elements of a list, where it is in one."""
    start = f"{prefix}." if prefix else ""
    first = readers.names.split()[0].removeprefix(start)
    own = first.partition(".")[0]
    if not (readers.names.startswith(start) and own.isdigit()):
        return
    here = re.compile(rf"(?<!\S){re.escape(start)}{own}(?=[.\s]|$)")
    for number in numbers:
        there = f"{start}{number}"
        fold = readers.fold and here.sub(there, readers.fold)
        yield replace(readers, names=here.sub(there, readers.names), fold=fold)


def _gates(
    readers: Sequence[Readers], within: Sequence[Sizes], total: int
) -> dict[str, None]:
    """Names of a row's linears that give few channels, and hold few weights."""
    found: dict[str, None] = {}
    for each in readers:
        for name in each.names.split():
            shapes = [block[name] for block in within if name in block]
            narrow = all(map(_is_narrow, shapes))
            if narrow and not each.experts and sum(map(prod, shapes)) <= SMALL * total:
                found[name] = None
    return found


def _without(gates: Collection[str], readers: Sequence[Readers]) -> Iterator[Readers]:
    """Sets without gates; what feeds a gate too does not feed a set alone."""
    for each in readers:
        names = [name for name in each.names.split() if name not in gates]
        if len(names) == len(each.names.split()):
            yield each
        elif names:
            yield replace(each, names=" ".join(names), fold=None, added=0.0)


def _unplaced(structure: Structure, counts: tuple[int, ...], sizes: Sizes) -> Sizes:
    """Linears that have no place, and no reason to have none."""
    places = [re.compile(place.pattern) for place in structure.places(counts)]
    reasons = [
        re.compile(each.pattern)
        for each in structure.rests
        if not each.reason.startswith(UNPLACED)
    ]
    return {
        name: size
        for name, size in sizes.items()
        if not any(x.fullmatch(f"{name}.0" if len(size) > 2 else name) for x in places)
        and not any(each.fullmatch(name) for each in reasons)
    }


def _bare(structure: Structure, module: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of matrices in rows that are no linears, nor gates, by full name."""
    inside = tuple(f"{row.path}." for row in structure.rows)
    bare = [re.compile(x.pattern) for x in structure.rests if x.reason == MATRIX]
    return {
        name: tuple(parameter.shape)
        for name, parameter in module.named_parameters()
        # a matrix in one block may be a vector in another
        if parameter.dim() > 1
        and name.startswith(inside)
        and any(each.fullmatch(name.removesuffix(".weight")) for each in bare)
        and not _is_narrow(parameter.shape)
    }


def _is_narrow(shape: Sequence[int]) -> bool:
    """Whether a linear gives too few channels to say what there is."""
    return shape[-2] < FEW and FEWER * shape[-2] <= shape[-1]


def _refuse_more(most: float, lost: Sizes, sizes: Sizes) -> None:
    """Refuse weights without a place.

    Raises:
        SpecError: they are more than a share of all.
    """
    share = sum(map(prod, lost.values())) / sum(map(prod, sizes.values()))
    if share > most:
        beyond = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise SpecError(
            f"{share:.0%} of the weights have no place that the structure shows, and "
            f"at most {most:.0%} may: {', '.join([*lost][:SHOWN])}{beyond}"
        )
