"""Cells of one sibling set, each linear as it was given; usually all alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.core.allocation import Choice
    from quant.assignment import Assignment
    from quant.calibration import Observed
    from quant.grid import Cell


def cells_of(
    wanted: Assignment, weights: Sequence[Tensor], observed: Observed
) -> dict[str, Cell]:
    """Cells of those siblings that get one, by name.

    Args:
        wanted: what each linear is to become.
        weights: of all siblings, [out_i, in] each.
        observed: the set, and what it reads.

    Raises:
        ModelError: weights or activations that are not finite.
    """
    choices, siblings = wanted.choices, observed.siblings.names
    low = [n for n in siblings if n in choices and choices[n].method is not None]
    found: dict[str, Cell] = {}
    for choice in dict.fromkeys(choices[name] for name in low):
        cells = _quantize(wanted, choice, weights, observed)
        found |= {
            name: cell
            for name, cell in zip(siblings, cells, strict=True)
            if choices.get(name) == choice
        }
    return found


def _quantize(
    wanted: Assignment, choice: Choice, weights: Sequence[Tensor], observed: Observed
) -> Sequence[Any]:
    """Cells of a sibling set at one choice, as a bank makes them."""
    assert choice.method is not None
    recipe = wanted.recipe
    foldable = observed.siblings.fold is not None
    cells = recipe.methods[choice.method].quantize(
        weights, observed.inputs, recipe.scheme, [choice.bits], foldable=foldable
    )
    return cells[choice.bits]
