"""What a swap takes: all weights of a model, put in place at random widths.

    python -m tests.benchmarks.bench_swaps [--only random-llava]

CPU seconds of one thread, medians of turns in which every way runs once, for both
embedded models and a LLaVA of 0.3 B random weights. The cells are made by rounding.
`whole`: cells read with their checksums, dequantized, kept as float32 up to 512 MB, and
copied, as it was done before. `packed`: kept packed, decoded into the parameter.
`decoded`: packed, and all that was decoded is kept. `restored`: full precision again.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import OrderedDict
from pathlib import Path
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.in_place import InPlace
from allocator.core.allocation import Choice, Scheme
from allocator.core.plugins import load
from allocator.embedded import embedded_models, model_folder
from allocator.families import family_of
from quant.bank import DECODED_BYTES, Bank, Recipe
from quant.cells import add_cells, file_of, packed_cell, read_cell
from quant.grid import LOW_WIDTHS, dequantize, round_to_nearest
from quant.kept import Kept
from quant.lru_cache import LRUCache
from tests.models import MID, save_llava

if TYPE_CHECKING:
    from torch import Tensor

    from allocator.core.spec import Linear

RANDOM = "random-llava"
METHOD = "gptq"


class Whole:
    """Cells as they were put in place before they were kept packed."""

    def __init__(self, bank: Bank) -> None:
        self.bank, self.held = bank, 0
        self.weights: OrderedDict[Any, Tensor] = OrderedDict()
        self.rest = bank.rest

    def put(self, linear: Linear, choice: Choice, out: Tensor) -> int:
        """From an LRU of float32 weights."""
        key = linear.name, choice
        if key not in self.weights:
            file = file_of(self.bank.folder, linear.name)
            name = self.bank.recipe.key(METHOD, choice.bits)
            self.weights[key] = dequantize(read_cell(file, name))
            self.held += self.weights[key].nbytes
            while self.held > DECODED_BYTES and len(self.weights) > 1:
                self.held -= self.weights.popitem(last=False)[1].nbytes
        self.weights.move_to_end(key)
        out.copy_(self.weights[key])
        return 0


def bank_of(folder: Path, spec: Any, module: Any) -> Bank:
    """Cells of every linear at every width, rounded to nearest."""
    methods = {METHOD: load("quant.methods", METHOD)}
    recipe = Recipe("random", (), Scheme(), methods, LOW_WIDTHS)
    folder.mkdir()
    for linear in spec.linears:
        weight = module.get_parameter(f"{linear.name}.weight")
        own = {
            recipe.key(METHOD, bits): packed_cell(
                round_to_nearest(weight, Scheme(), bits)
            )
            for bits in LOW_WIDTHS
        }
        add_cells(folder, {linear.name: own})
    return Bank(folder, recipe, spec)


def measure(model: str, turns: int) -> dict[str, Any]:
    """Milliseconds of a swap by each way, and its weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        if model == RANDOM:
            save_llava(folder, MID)
        else:
            folder = model_folder(model)
        family = family_of(folder)
        spec, module = family.spec(folder), family.load(folder, "cpu").module
        bank = bank_of(Path(name) / "bank", spec, module)
        packed, decoded = (Bank(bank.folder, bank.recipe, spec) for _ in range(2))
        packed.kept = Kept()
        decoded.kept = Kept(decoded=LRUCache(2**36))
        cells = {"whole": Whole(bank), "packed": packed}
        if model != RANDOM:
            cells["decoded"] = decoded
        in_place, chance = InPlace(module, spec.linears), random.Random(0)
        rows: list[dict[str, float]] = []
        for _ in range(turns):
            wanted = {
                x.name: Choice(chance.choice(LOW_WIDTHS), METHOD) for x in spec.linears
            }
            row = {}
            for kind, own in cells.items():
                start = process_time()
                in_place.put(wanted, own)
                swapped = process_time()
                in_place.restore()
                row |= {kind: swapped - start, "restored": process_time() - swapped}
            rows.append(row)
        # not those in which cells are read for the first time
        late = rows[turns // 2 :]
        found = {key: 1e3 * median(row[key] for row in late) for key in rows[0]}
        first = {f"first {k}": 1e3 * v for k, v in rows[0].items() if k in cells}
        return {"weights": spec.weights, **found, **first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*embedded_models(), RANDOM])
    parser.add_argument("--turns", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for model in [given.only] if given.only else [*embedded_models(), RANDOM]:
        found = measure(model, 6 if model == RANDOM else given.turns)
        count = found.pop("weights")
        told = ", ".join(
            f"{key} {ms:,.1f} ms ({1e6 * ms / count:.2f} ns)"
            for key, ms in found.items()
        )
        print(f"{model}, {count:,} weights: {told}")


if __name__ == "__main__":
    main()
