"""Weights that change places: packed cells read into 2.7 G weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.in_place import InPlace
from allocator.core.allocation import FULL, Choice, Scheme
from quant.bank import Bank, Recipe
from quant.cells import add_cells, packed_cell
from quant.grid import round_to_nearest
from studies.gpu._session import BLOCKS, SWAPPED
from tests.models import Stored

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec
    from studies.gpu._session import Session

NAME, BITS = "rounded", 4


def swaps(session: Session) -> dict[str, Any]:
    """Put every weight at 4 bits, and back: from files, then from where it is kept."""
    session.kept.clear()
    session.end()
    model, spec = session.made("swapped", session.cut(BLOCKS, SWAPPED))
    recipe = Recipe("random", ("none",), Scheme(), {NAME: Stored()}, (BITS, FULL))
    folder = session.folder / "cells" / recipe.digest
    making = session.seconds(lambda: write_cells(folder, recipe, model, spec))
    bank = Bank(folder, recipe, spec)
    in_place = InPlace(model.module, spec.linears)
    low = {linear.name: Choice(BITS, NAME) for linear in spec.linears}
    found: dict[str, Any] = {"weights": spec.weights, "cells written in": making}
    for name in ("first", "again", "third"):
        taken = session.seconds(lambda: in_place.put(low, bank))
        found[f"swap {name}"] = each(taken, spec, "from packed cells")
        taken = session.seconds(in_place.restore)
        found[f"restored {name}"] = each(taken, spec, "back to 16 bits")
    found["swap"] = found["swap third"]
    return found


def each(seconds: float, spec: ModelSpec, of: str) -> dict[str, Any]:
    """What a weight takes."""
    whole = f"{seconds:.2f} s for {spec.weights / 1e9:.2f} G"
    return {"each": seconds / spec.weights, "of": f"a weight {of} ({whole})"}


@torch.no_grad()
def write_cells(folder: Path, recipe: Recipe, model: Model, spec: ModelSpec) -> None:
    """A bank's files, by rounding on the device."""
    folder.mkdir(parents=True)
    key = recipe.key(NAME, BITS)
    for linear in spec.linears:
        weight = model.module.get_submodule(linear.name).weight
        cell = round_to_nearest(weight.detach(), recipe.scheme, BITS)
        add_cells(folder, {linear.name: {key: packed_cell(cell)}})
