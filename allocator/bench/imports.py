"""An allocation from a file: a plan of ours, or what another tool wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.bench.imported import said_in
from allocator.bench.imported._file import contents
from allocator.bench.imported._names import Names, in_short
from allocator.core.allocation import FULL, WIDTHS, Choice
from allocator.core.errors import SpecError
from allocator.core.plugins import available

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.bench.imported._said import Rule, Said, Wanted
    from allocator.core.allocation import Scheme
    from allocator.core.spec import Linear, ModelSpec
    from allocator.core.watch import Watch

# what a plan of ours has, and no file of another tool
OURS = {"model", "groups"}
# what is taken where a file names no method
METHOD = "gptq"
# bits of what no tool quantizes
AS_IT_IS = (FULL, 2 * FULL)


@dataclass(frozen=True)
class Imported:
    """What another tool's file comes to here.

    Attributes:
        tool: that wrote it.
        choices: bits and method of every linear in groups, by full name.
        notes: sentences on what is otherwise than in the file.
    """

    tool: str
    choices: Mapping[str, Choice]
    notes: tuple[str, ...]


def is_plan(file: Path) -> bool:
    """Whether a file is a plan of ours, or none of another tool's.

    Where it is not there, or is no text, a plan is asked of what is wrong with it.
    """
    if not file.is_file():
        return True
    return bool(OURS & contents(file).keys())


def imported(
    file: Path,
    spec: ModelSpec,
    scheme: Scheme,
    methods: Sequence[str] = (),
    method: str | None = None,
) -> Imported:
    """Bits and method of every linear, as a file of another tool has them.

    Args:
        file: what the tool wrote.
        spec: the model it is of.
        scheme: the grid that is used, whatever the file has.
        methods: that may be used; none: all that there are.
        method: for what the file names no method of; None: GPTQ, where it may be used,
            or else the first of the methods.

    Raises:
        SpecError: the file cannot be read, names what the model does not have, or has
            widths that there are none of.
    """
    allowed = tuple(methods) or available("quant.methods")
    given = method or (METHOD if METHOD in allowed else allowed[0])
    said = said_in(file)
    try:
        wanted = _wanted(said, Names(spec))
        choices = {
            linear.name: _choice(linear.name, wanted.get(linear.name), allowed, given)
            for linear in spec.linears
        }
        if all(choice.bits == FULL for choice in choices.values()):
            raise SpecError("quantizes no linear of this model")
    except SpecError as error:
        raise SpecError(f"{file} ({said.tool}) {error}") from None
    notes = (
        *_on_names(spec, wanted),
        *_on_methods(choices, wanted, given),
        *_on_grids(spec, scheme, wanted),
    )
    found = tuple(f"{file} ({said.tool}) {note}" for note in notes)
    return Imported(said.tool, choices, found)


def tell(found: Imported, watch: Watch) -> None:
    """Say what is otherwise than in the file."""
    for note in found.notes:
        watch.say(note)


def _wanted(said: Said, names: Names) -> dict[str, Wanted]:
    """What each linear is to get that the file says something of.

    Raises:
        SpecError: see `Names.of`; two rules differ that are in no order.
    """
    found: dict[str, Rule] = {}
    for rule in said.rules:
        for name in names.of(rule):
            first = found.setdefault(name, rule)
            if not said.ordered and first.wanted != rule.wanted:
                raise SpecError(
                    f"says two things of {name}: under {first.pattern.text!r:.200} and "
                    f"under {rule.pattern.text!r:.200}"
                )
    return {name: rule.wanted for name, rule in found.items()}


def _choice(
    name: str, wanted: Wanted | None, allowed: Sequence[str], given: str
) -> Choice:
    if wanted is None or wanted.bits in AS_IT_IS:
        return Choice(FULL)
    if wanted.bits not in WIDTHS:
        widths = ", ".join(map(str, WIDTHS))
        raise SpecError(f"gives {name} {wanted.bits:g} bits, and widths are {widths}")
    own = wanted.method if wanted.method in allowed else None
    return Choice(int(wanted.bits), own or given)


def _on_names(spec: ModelSpec, wanted: Mapping[str, Wanted]) -> list[str]:
    """What is said of names that the file lacks, or that stay as they are here."""
    names = [linear.name for linear in spec.linears]
    unsaid = [name for name in names if name not in wanted]
    left = {each.name for each in spec.left_out}
    kept = [name for name, w in wanted.items() if name in left and w.bits < FULL]
    notes = []
    if unsaid:
        notes.append(
            f"says nothing of {len(unsaid):,} of {len(names):,} linears, which stay at "
            f"16 bits: {in_short(unsaid)}"
        )
    if kept:
        notes.append(
            f"has fewer than 16 bits for {in_short(kept)}, which this model keeps at 16"
        )
    return notes


def _on_methods(
    choices: Mapping[str, Choice], wanted: Mapping[str, Wanted], given: str
) -> list[str]:
    """What is said of methods that the file lacks, or that were not asked for."""
    low = [name for name, choice in choices.items() if choice.bits != FULL]
    unsaid = [name for name in low if wanted[name].method is None]
    other = [
        name for name in low if wanted[name].method not in (None, choices[name].method)
    ]
    notes = []
    if unsaid:
        notes.append(
            f"names no method for {len(unsaid):,} of {len(low):,} linears below 16 "
            f"bits: they take {given}"
        )
    if other:
        methods = ", ".join(sorted({str(wanted[name].method) for name in other}))
        notes.append(f"names {methods}, which is not asked for: they take {given}")
    return notes


def _on_grids(
    spec: ModelSpec, scheme: Scheme, wanted: Mapping[str, Wanted]
) -> list[str]:
    """What is said of grids that are otherwise than in the file."""
    low = [x for x in spec.linears if x.name in wanted and wanted[x.name].bits < FULL]
    floats = [x.name for x in low if wanted[x.name].floating]
    sizes = sorted(
        {
            str(size)
            for x in low
            if (size := wanted[x.name].group_size) is not None
            and not _same_size(size, x, scheme)
        }
    )
    other = {wanted[x.name].symmetric for x in low} - {None, scheme.symmetric}
    notes = []
    if floats:
        notes.append(
            f"has floating point for {in_short(floats)}: integers of as many bits are "
            "taken"
        )
    kind = {False: "asymmetric", True: "symmetric"}
    words = [f"groups of {', '.join(sizes)}"] if sizes else []
    words += [f"{kind[not scheme.symmetric]} grids"] if other else []
    if words:
        notes.append(
            f"has {' and '.join(words)}: its widths are taken, on "
            f"{kind[scheme.symmetric]} grids of group size {scheme.group_size}"
        )
    return notes


def _same_size(size: int, linear: Linear, scheme: Scheme) -> bool:
    """Whether a group size is that of here; a row, -1, may be told by its length."""
    own = scheme.columns(linear.in_features)
    return (linear.in_features if size < 0 else min(size, linear.in_features)) == own
