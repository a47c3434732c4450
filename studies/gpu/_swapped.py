"""Weights that change places: packed cells read into 2.7 G weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.in_place import InPlace
from allocator.core.allocation import FULL, Choice, Scheme
from quant.bank import Bank, Recipe
from quant.cells import add_cells, packed_cell
from quant.grid import round_to_nearest
from quant.kept import Kept, Memory, device_memory, pinned_memory
from studies.gpu._session import BLOCKS, SWAPPED
from tests.models import Stored

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec
    from studies.gpu._session import Session

NAME, BITS = "rounded", 4
# bytes of cells that are kept at most
MOST = 2**35


def swaps(session: Session) -> dict[str, Any]:
    """Put every weight at 4 bits, and back: from files, then from where it is kept."""
    session.kept.clear()
    session.end()
    model, spec = session.made("swapped", session.cut(BLOCKS, SWAPPED))
    recipe = Recipe("random", ("none",), Scheme(), {NAME: Stored()}, (BITS, FULL))
    folder = session.folder / "cells" / recipe.digest
    making = session.seconds(lambda: write_cells(folder, recipe, model, spec))
    in_place = InPlace(model.module, spec.linears)
    low = {linear.name: Choice(BITS, NAME) for linear in spec.linears}
    found: dict[str, Any] = {"weights": spec.weights, "cells written in": making}
    for where, memories in kept_in(session).items():
        bank = Bank(folder, recipe, spec)
        bank.kept = Kept(memories)
        for when in ("first", "again"):
            taken = session.seconds(lambda to=bank: in_place.put(low, to))
            back = session.seconds(in_place.restore)
            name = f"swap from {where}" if when == "again" else f"swap to {where}"
            found[name] = each(taken, spec, "at 4 bits")
        found[f"restored beside {where}"] = each(back, spec, "back to 16 bits")
    # where the cells of a search are kept first
    return {**found, "swap": found[f"swap from {next(iter(kept_in(session)))}"]}


def kept_in(session: Session) -> dict[str, list[Memory]]:
    """Memories that cells are kept in, each as if it were the only one."""
    if not session.is_cuda:
        return {"host memory": [Memory(MOST, lambda part: part)]}
    device = torch.device(session.device)
    return {
        "device memory": [device_memory(device)],
        "pinned memory": [pinned_memory(MOST)],
    }


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
