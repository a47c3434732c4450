"""Allocations as rows of numbers: what the tree models see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import FULL
from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice

    Damage = Mapping[tuple[str, int, str | None], float]

# the codes 0, 1, 2 of the method columns; a method of a plug-in comes after them
METHOD_ORDER = ("uniform", "gptq", "awq")


@dataclass(frozen=True, eq=False)
class Features:
    """A feature table.

    `names` and `monotone` have one entry per column of `matrix` [n, columns];
    `monotone` is +1 where a larger value never makes an allocation worse, -1 where it
    never makes it better, 0 where nothing is known.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]
    monotone: tuple[int, ...]


def bit_matrix(
    keys: Sequence[str], allocations: Sequence[Allocation]
) -> NDArray[np.float64]:
    """Bits of every group.

    Args:
        keys: k group keys, the columns in order.
        allocations: n allocations; groups that are not in `keys` are passed over.

    Returns:
        [n, k], bits of the codes (2 to 16).

    Raises:
        SpecError: an allocation lacks one of the groups.
    """
    rows = [[choice.bits for choice in row] for row in _choices(keys, allocations)]
    return np.array(rows, dtype=np.float64).reshape(len(allocations), len(keys))


def log2_matrix(
    keys: Sequence[str], allocations: Sequence[Allocation]
) -> NDArray[np.float64]:
    """Logarithm to base 2 of `bit_matrix`, [n, k]: 1 for 2 bits, 4 for 16."""
    return np.log2(bit_matrix(keys, allocations))


def method_matrix(
    keys: Sequence[str], allocations: Sequence[Allocation]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Methods of the groups that did not always get the same one.

    Args:
        keys: k group keys.
        allocations: n allocations.

    Returns:
        The keys of m groups in which more than one method occurs, and [n, m] codes:
        the place of the method in the order uniform, gptq, awq, then by name; 0 at 16
        bits, where there is none.

    Raises:
        SpecError: an allocation lacks one of the groups.
    """
    codes, coded = _method_codes(keys, _choices(keys, allocations), None)
    return tuple(coded), codes


def features(
    keys: Sequence[str],
    allocations: Sequence[Allocation],
    damage: Damage | None = None,
    methods: Sequence[str] | None = None,
) -> Features:
    """Columns for `MonotoneTrees`: log2 bits, method codes, summed damage.

    Tables that one model fits and predicts need the same columns: give the `methods`
    of the study, or build one table of all allocations and cut it.

    Args:
        keys: k group keys.
        allocations: n allocations.
        damage: loss of a single group at (key, bits, method), the larger the worse, in
            any additive unit; 16 bits do none unless the table says otherwise. None
            leaves the last column out.
        methods: the methods there can be; with two or more, every group gets a method
            column holding the position of its method here. None takes the methods that
            occur, in the order uniform, gptq, awq, then by name, and gives a column
            only to groups in which more than one occurs.

    Returns:
        A table of n rows. The code of a group at 16 bits, which has no method, is 0.

    Raises:
        SpecError: an allocation lacks a group, or `methods` or `damage` an entry.
    """
    rows = _choices(keys, allocations)
    codes, coded = _method_codes(keys, rows, methods)
    names = [*(f"log2 bits {key}" for key in keys), *(f"method {key}" for key in coded)]
    monotone = [1] * len(keys) + [0] * len(coded)
    columns = [log2_matrix(keys, allocations), codes]
    if damage is not None:
        names.append("damage")
        monotone.append(-1)
        columns.append(_damage_column(keys, rows, damage))
    return Features(tuple(names), np.hstack(columns), tuple(monotone))


def _choices(
    keys: Sequence[str], allocations: Sequence[Allocation]
) -> list[list[Choice]]:
    rows = []
    for allocation in allocations:
        chosen = dict(allocation.choices)
        missing = [key for key in keys if key not in chosen]
        if missing:
            raise SpecError(f"allocation {allocation.digest} lacks groups {missing}")
        rows.append([chosen[key] for key in keys])
    return rows


def _method_codes(
    keys: Sequence[str], rows: list[list[Choice]], methods: Sequence[str] | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Codes [n, columns] and the group of each column."""
    met: list[set[str]] = [set() for _ in keys]
    for row in rows:
        for seen, choice in zip(met, row, strict=True):
            if choice.method is not None:
                seen.add(choice.method)
    occurring = set[str]().union(*met)
    order = _ordered(occurring) if methods is None else list(methods)
    if unknown := sorted(occurring - set(order)):
        raise SpecError(f"methods {unknown} are not among {order}")
    varying = [len(seen if methods is None else order) > 1 for seen in met]
    places = [place for place, varies in enumerate(varying) if varies]
    code: dict[str | None, int] = {method: at for at, method in enumerate(order)}
    # any fixed code will do: the bits column already sets 16 bits apart
    code[None] = 0
    codes = [[code[row[place].method] for place in places] for row in rows]
    matrix = np.array(codes, dtype=np.float64).reshape(len(rows), len(places))
    return matrix, [keys[place] for place in places]


def _ordered(methods: Iterable[str]) -> list[str]:
    return [*METHOD_ORDER, *sorted(set(methods) - set(METHOD_ORDER))]


def _damage_column(
    keys: Sequence[str], rows: list[list[Choice]], damage: Damage
) -> NDArray[np.float64]:
    """Damage summed over the groups, [n, 1]."""

    def cell(key: str, choice: Choice) -> float:
        at = (key, choice.bits, choice.method)
        if at not in damage and choice.bits != FULL:
            raise SpecError(f"the damage table has no entry for {key} at {choice}")
        return damage.get(at, 0.0)

    sums = [
        math.fsum(cell(key, choice) for key, choice in zip(keys, row, strict=True))
        for row in rows
    ]
    return np.array(sums, dtype=np.float64).reshape(len(rows), 1)
