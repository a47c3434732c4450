"""Put a model on the bench: loaded, with a bank that lacks nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.bench.prepare import sample_digest
from allocator.core.home import cache_home
from allocator.core.plugins import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Scheme
    from allocator.core.ports import Model, State
    from allocator.core.watch import Watch
    from quant.bank import Bank, Recipe
    from quant.build import Source

# samples that run through a stage at once, for models below and above SMALL parameters:
# few for a large one, whose feed-forward activations would outweigh its weights
CALIBRATION_BATCHES = (250, 2)


def open_bench(setup: Setup, watch: Watch) -> Workbench:
    """Make what the model's bank lacks, then load the model."""
    return _loaded(setup, open_bank(setup, watch))


def open_full_precision(setup: Setup) -> Workbench:
    """Load the model alone: nothing below 16 bit can be applied."""
    return _loaded(setup, None)


def _loaded(setup: Setup, bank: Bank | None) -> Workbench:
    from allocator.bench.workbench import Workbench
    from quant.lru_cache import LRUCache

    model = setup.family.load(setup.folder, setup.device)
    return Workbench(
        model,
        setup.model,
        setup.task,
        bank,
        setup.asked.beams,
        setup.rerank,
        features=LRUCache(setup.asked.cache_bytes),
    )


def open_bank(setup: Setup, watch: Watch) -> Bank:
    """Make what a bank lacks, and open it."""
    from quant.bank import Bank

    recipe = recipe_of(setup)
    build(setup, recipe, watch)
    folder = bank_home() / recipe.digest
    return Bank(folder, recipe, setup.model, lambda: build(setup, recipe, watch))


def bank_home() -> Path:
    """Where banks are kept."""
    return cache_home() / "bank"


def recipe_of(setup: Setup) -> Recipe:
    """What the cells of a request depend on."""
    from quant.bank import Recipe

    calibration = setup.samples["calibration"]
    held = setup.contents.of([sample.image for sample in calibration], "pictures")
    return Recipe(
        setup.weights,
        tuple(sample_digest(sample, held[sample.image]) for sample in calibration),
        _scheme_of(setup),
        {name: load("quant.methods", name) for name in setup.asked.methods},
        setup.asked.widths,
        setup.arithmetic,
    )


def _scheme_of(setup: Setup) -> Scheme:
    """The grid that cells depend on: targets that cut rows alike share their cells."""
    lengths = {linear.in_features for linear in setup.model.linears}
    if lengths.isdisjoint(setup.scheme.regrouped):
        return replace(setup.scheme, target="none")
    return setup.scheme


def build(setup: Setup, recipe: Recipe, watch: Watch) -> int:
    """Make what a bank lacks, and say how many cells that were.

    The model is read from its files piece by piece and never loaded as a whole.
    """
    from quant.build import build_bank

    calibration = setup.samples["calibration"]
    if len(calibration) < setup.asked.calibration:
        watch.say(
            f"calibrating on {len(calibration)} samples: there are no "
            f"{setup.asked.calibration}"
        )
    source, linears = source_of(setup), setup.model.linears
    with watch.phase("bank") as progress:
        return build_bank(bank_home(), recipe, linears, source, progress)


def source_of(setup: Setup) -> Source:
    """The mapped model and what calibrates it, in batches."""
    from allocator.bench.workbench import SMALL
    from quant.build import Source

    calibration = setup.samples["calibration"]
    batch = CALIBRATION_BATCHES[setup.model.parameters >= SMALL]

    def batches(model: Model) -> Iterator[State]:
        for at in range(0, len(calibration), batch):
            yield model.inputs(calibration[at : at + batch], answered=True)

    return Source(
        lambda: setup.family.load(setup.folder, setup.device, mapped=True),
        batches,
        setup.device,
    )
