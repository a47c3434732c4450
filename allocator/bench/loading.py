"""Put a model on the bench: loaded, with a bank that lacks nothing."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from allocator.bench.tasks import data_folder, sample_digest
from allocator.core.amounts import fed_in_words
from allocator.core.home import cache_home
from allocator.core.memory import share
from allocator.core.plugins import load
from allocator.core.recurring import Recurring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Scheme
    from allocator.core.ports import Model, Sample, State
    from allocator.core.watch import Watch
    from quant.bank import Bank, Recipe
    from quant.build import Source
    from quant.needs import Needs
    from quant.tuning import Tuning

# samples that run through a stage at once, of a small model and of a large one: few
# there, whose feed-forward activations would outweigh its weights
CALIBRATION_BATCHES = (250, 2)
# the same where gradients are taken, a step on each batch or on several together
TUNED_BATCHES, TUNED_SAMPLES = (16, 2), 8
# bytes of a bank that are said before a search makes it
WORTH_SAYING = 10**9
# further samples, that judge what was tuned on the others
JUDGES = 32


def open_bench(setup: Setup, watch: Watch) -> Workbench:
    """Make what the model's bank lacks, then load the model."""
    return _loaded(setup, open_bank(setup, watch))


def open_full_precision(setup: Setup) -> Workbench:
    """Load the model alone: nothing below 16 bit can be applied."""
    return _loaded(setup, None)


def _loaded(setup: Setup, bank: Bank | None) -> Workbench:
    from allocator.bench.counting import count_tokens
    from allocator.bench.reading import INPUT_BYTES
    from allocator.bench.workbench import Workbench
    from quant.lru_cache import LRUCache

    model = setup.family.load(setup.folder, setup.device)
    most = max(model.pixels.limit, setup.asked.cache_bytes)
    model.pixels.limit = share(1 / 16, most)
    bench = Workbench(
        model,
        setup.model,
        setup.task,
        bank,
        setup.asked.beams,
        setup.rerank,
        inputs=Recurring(share(1 / 16, INPUT_BYTES)),
        features=LRUCache(share(1 / 8, setup.asked.cache_bytes)),
        mapped=lambda: (
            setup.family.load(setup.folder, setup.device, mapped=True).module
        ),
    )
    bench.halving.lengths = model.lengths
    count_tokens(model.module, setup.model.linears, bench.cost)
    return bench


def open_bank(setup: Setup, watch: Watch) -> Bank:
    """Make what a bank lacks, and open it."""
    from quant.bank import Bank
    from quant.build import weight_of

    recipe = recipe_of(setup)
    tell_needs(setup, recipe, watch, WORTH_SAYING)
    build(setup, recipe, watch)
    folder = bank_home() / recipe.digest
    mapped: list[Model] = []

    def exact(name: str) -> Tensor:
        if not mapped:
            mapped.append(setup.family.load(setup.folder, setup.device, mapped=True))
        return weight_of(mapped[0].module, name, setup.device)

    return Bank(folder, recipe, setup.model, lambda: build(setup, recipe, watch), exact)


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
        made = build_bank(bank_home(), recipe, linears, source, progress)
    if told := fed_in_words(fed_of(bank_home() / recipe.digest)):
        watch.say(f"{told} (--calibration)")
    return made


def fed_of(folder: Path) -> dict[str, int] | None:
    """How far calibration fed the experts of a finished bank; None: it has none."""
    from quant.bank import read_manifest
    from quant.pooling import feeding

    found = feeding(read_manifest(folder))
    return None if found is None else asdict(found)


def tell_needs(setup: Setup, recipe: Recipe, watch: Watch, least: int = 0) -> Needs:
    """Say what making the missing cells takes, and what there is.

    Args:
        setup: the request.
        recipe: what the cells are to be.
        watch: is told.
        least: bytes of the disk below which nothing is said.
    """
    from quant.bank import missing_cells
    from quant.needs import building
    from quant.room import free_memory

    linears, folder = setup.model.linears, bank_home() / recipe.digest
    lacking = missing_cells(folder, recipe, [linear.name for linear in linears])
    needs = building(recipe, linears, lacking, setup.device)
    if needs.disk < least:
        return needs
    folder.mkdir(parents=True, exist_ok=True)
    free = [shutil.disk_usage(folder).free, free_memory("cpu")]
    told = (
        f"{sum(map(len, lacking.values())):,} of {len(linears) * len(recipe.keys):,} "
        f"cells to make, at most {needs.disk / 1e9:,.2f} GB of {free[0] / 1e9:,.0f} GB "
        f"free disk, {needs.host / 1e9:,.1f} of {free[1] / 1e9:,.0f} GB memory"
    )
    if needs.device:
        device = setup.device
        left = free_memory(device)
        told += f", {needs.device / 1e9:,.1f} of {left / 1e9:,.0f} GB on {device}"
    watch.say(told)
    return needs


def source_of(setup: Setup, *, tuned: bool = False) -> Source:
    """The mapped model and what calibrates it, in batches.

    `tuned`: in the smaller batches of `tuning_of`, and behind them those that judge.
    """
    from quant.build import Source

    calibration = setup.samples["calibration"]
    judges = judges_of(setup) if tuned else ()
    size = _samples_at_once(setup, TUNED_BATCHES if tuned else CALIBRATION_BATCHES)

    def batches(model: Model) -> Iterator[State]:
        for samples in (calibration, judges):
            for at in range(0, len(samples), size):
                yield model.inputs(samples[at : at + size], answered=True)

    return Source(
        lambda: setup.family.load(setup.folder, setup.device, mapped=True),
        batches,
        setup.device,
        size,
        -(-len(judges) // size),
    )


def tuning_of(setup: Setup) -> Tuning:
    """How cells are tuned, as a request has it.

    Raises:
        DataError: a picture cannot be read.
    """
    from quant.tuning import Tuning

    judges = judges_of(setup)
    held = setup.contents.of([sample.image for sample in judges], "pictures")
    return Tuning(
        setup.asked.tune_steps,
        setup.asked.seed,
        max(1, TUNED_SAMPLES // _samples_at_once(setup, TUNED_BATCHES)),
        tuple(sample_digest(sample, held[sample.image]) for sample in judges),
    )


def judges_of(setup: Setup) -> tuple[Sample, ...]:
    """Samples that could have been calibrated on, of pictures that are in no set."""
    if setup.judges:
        return setup.judges
    asked, task = setup.asked, setup.task
    elsewhere = replace(asked.selection, seed=asked.seed + 1)
    seen = {sample.image for own in setup.samples.values() for sample in own}
    drawn = task.samples(data_folder(asked), "calibration", elsewhere)
    return tuple(sample for sample in drawn if sample.image not in seen)[:JUDGES]


def _samples_at_once(setup: Setup, sizes: tuple[int, int]) -> int:
    return sizes[setup.model.is_large]
