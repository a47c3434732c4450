"""Which columns of a table hold the bits of a group: told by name, or named."""

from __future__ import annotations

import math
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import DataError
from allocator.space.sheet import LARGEST, width

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.space.sheet import CsvFile

SUFFIX = "_bits"
# columns of other names that hold nothing else are likely to be groups as well
USUAL = frozenset((2, 3, 4, 5, 6, 7, 8, 16, 32))
# words in the name of a column that is about all groups together
WHOLE = frozenset(
    (
        *("mean", "avg", "average", "averaged", "total", "sum", "overall", "effective"),
        *("bpw", "budget", "target", "requested"),
    )
)
# an average is written with a decimal at least; columns that it is told from
ROUNDED, SLIGHT, SUMMED = 0.06, 1e-3, 2
# rows beyond the coefficients of a fit that show it is no accident, rows looked at
SPARE, MOST = 3, 2000
# what is written as 4bit or int4 was meant as bits
_DIGIT = re.compile(r"\d")
# columns that a refusal lists
LISTED = 4


def group_columns(
    sheet: CsvFile, names: Sequence[str], bits: str | None
) -> tuple[list[str], list[str]]:
    """Columns of groups, and a sentence of what looks like one and was left out.

    Raises:
        DataError: see `read_csv`.
    """
    if bits is not None:
        return _matching(sheet, names, bits), []
    left: dict[str, str] = {}
    found: dict[str, list[float]] = {}
    for name in names:
        if name.endswith(SUFFIX) and name != SUFFIX:
            values = sheet.values(name)
            if why := _no_group(name, values, sheet):
                left[name] = why
            else:
                check_widths(sheet, name, values)
                found[name] = values
    left |= _averages(found)
    unsure = [
        name
        for name in names
        if not name.endswith(SUFFIX) and {*sheet.values(name)} <= USUAL
    ]
    keys = [name for name in found if name not in left]
    if unsure or not keys:
        raise DataError(_why_unsure(sheet, unsure, left))
    return keys, _said(left)


def check_widths(sheet: CsvFile, name: str, values: Sequence[float]) -> None:
    """Refuse a column that holds anything but widths.

    Raises:
        DataError: names the line and its cell.
    """
    for at, value in enumerate(values):
        if width(value) is None:
            line, cell = sheet.lines[at][0], sheet.cell(at, name)
            kind = f"width, a number of bits above 0 and up to {LARGEST}"
            raise DataError(
                f"{sheet.path}, line {line}: {name} {sheet.notation.not_a(kind, cell)}"
            )


def _no_group(name: str, values: Sequence[float], sheet: CsvFile) -> str | None:
    """Why a column named like a group is none, by its name and its cells alone."""
    if WHOLE & {*re.findall(r"[a-z]+", name.lower())}:
        return "named like a mean or a sum"
    if all(map(math.isnan, values)) and not _DIGIT.search("".join(sheet.column(name))):
        return "no number in it"
    if all(value > LARGEST for value in values):
        return f"above {LARGEST} in every row"
    return None


def _averages(found: Mapping[str, list[float]]) -> dict[str, str]:
    """Columns that are averages of others, with the reason.

    No row is lost without one: equal bits in the others are equal averages.
    """
    kept, left = dict(found), dict[str, str]()
    for name, values in found.items():
        fractions = any(value != int(value) for value in values)
        others = [own for key, own in kept.items() if key != name]
        if fractions and len(others) >= SUMMED and _adds_up(values, others):
            del kept[name]
            left[name] = "an average of the others"
    return left


def _adds_up(values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a column is a sum of some others, each with a weight above 0."""
    step = -(-len(values) // MOST)
    table = np.array([own[::step] for own in others]).T
    target = np.array(values[::step])
    if len(np.unique(table, axis=0)) < table.shape[1] + SPARE:
        return False
    if (target[:, None] == table).any(axis=1).all():
        return False  # the same as one of them: groups that were varied together
    design = np.column_stack([table, np.ones(len(table))])
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    slopes = weights[:-1]
    close = float(np.abs(design @ weights - target).max()) <= ROUNDED
    several = int((slopes > SLIGHT).sum()) >= SUMMED
    return close and several and bool((slopes > -SLIGHT).all())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


def _said(left: Mapping[str, str]) -> list[str]:
    if not left:
        return []
    told = _listed([f"{name} ({why})" for name, why in left.items()])
    return [
        f"Left out, as no bits of a group: {told}; --bits names the columns of groups."
    ]


def _why_unsure(sheet: CsvFile, unsure: list[str], left: Mapping[str, str]) -> str:
    if unsure:
        return (
            f"{sheet.path} holds widths in {_listed(unsure)}, not named *{SUFFIX}: say "
            "with --bits which columns are the groups, by names or patterns such as "
            "--bits 'vit_*,llm_*'"
        )
    told = _listed([f"{name} ({why})" for name, why in left.items()])
    none = f"only {told}" if left else f"none is named *{SUFFIX}"
    return (
        f"{sheet.path} has no bit columns: {none}; --bits names the columns of groups"
    )


def _matching(sheet: CsvFile, names: Sequence[str], bits: str) -> list[str]:
    """Columns that one of the patterns matches.

    Raises:
        DataError: a pattern that matches nothing, or a cell that is no width.
    """
    patterns = [each.strip() for each in bits.split(",") if each.strip()]
    found = {
        pattern: [name for name in names if fnmatchcase(name, pattern)]
        for pattern in patterns
    }
    for pattern, matched in found.items():
        if not matched:
            raise DataError(
                f"--bits {pattern!r} matches no column of {sheet.path} that could hold "
                f"bits; there are {', '.join(names) or 'none'}"
            )
    if not found:
        raise DataError(f"--bits {bits!r} names no column")
    wanted = {name for matched in found.values() for name in matched}
    keys = [name for name in names if name in wanted]
    for name in keys:
        check_widths(sheet, name, sheet.values(name))
    return keys
