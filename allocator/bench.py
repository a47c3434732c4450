"""Put a model on the bench: loaded, with a bank that lacks nothing."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from allocator.core.plugins import load
from allocator.home import cache_home
from allocator.prepare import sample_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from allocator.core.ports import Model
    from allocator.prepare import Setup
    from allocator.trial import Workbench
    from quant.bank import Bank


class Watch(Protocol):
    """Is told how far a search is."""

    def phase(self, name: str) -> AbstractContextManager[Callable[[int, int], object]]:
        """Open a phase; the callable is told steps done and steps in all."""

    def say(self, text: str) -> None:
        """Say one line."""


class Silent:
    """A watch that tells nobody."""

    def phase(self, name: str) -> AbstractContextManager[Callable[[int, int], object]]:
        """Open a phase that is not shown."""
        del name
        return nullcontext(lambda done, total: None)  # noqa: ARG005

    def say(self, text: str) -> None:
        """Drop one line."""


def open_bench(setup: Setup, watch: Watch) -> Workbench:
    """Load the model and make what its bank lacks."""
    from allocator.trial import Workbench

    model = setup.family.load(setup.folder, setup.device)
    return Workbench(model, setup.model, setup.task, open_bank(setup, model, watch))


def open_full_precision(setup: Setup) -> Workbench:
    """Load the model alone: nothing below 16 bit can be applied."""
    from allocator.trial import Workbench

    return Workbench(
        setup.family.load(setup.folder, setup.device), setup.model, setup.task
    )


def open_bank(setup: Setup, model: Model, watch: Watch) -> Bank:
    """Make what the bank of a loaded model lacks, and open it."""
    from allocator.trial import batch_size
    from quant.bank import Bank, Recipe, build_bank

    asked = setup.asked
    calibration, batch = setup.samples["calibration"], batch_size(setup.model)
    recipe = Recipe(
        setup.weights,
        tuple(sample_digest(sample) for sample in calibration),
        setup.space.scheme,
        {name: load("quant.methods", name) for name in asked.methods},
        asked.widths,
    )
    with watch.phase("bank") as progress:
        folder = build_bank(
            cache_home() / "bank",
            recipe,
            model,
            lambda: [
                model.inputs(calibration[at : at + batch], answered=True)
                for at in range(0, len(calibration), batch)
            ],
            progress,
        )
    return Bank(folder, recipe, setup.model)
