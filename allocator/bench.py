"""Put a model on the bench: loaded, with a bank that lacks nothing."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from allocator.core.plugins import load
from allocator.home import cache_home

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from allocator.prepare import Setup
    from allocator.trial import Workbench


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
    from quant.bank import Bank, Recipe, build_bank

    asked = setup.asked
    model = setup.family.load(setup.folder, setup.device)
    calibration = setup.samples["calibration"]
    recipe = Recipe(
        setup.weights,
        tuple(sample.id for sample in calibration),
        setup.space.scheme,
        {name: load("quant.methods", name) for name in asked.methods},
        asked.widths,
    )
    with watch.phase("bank") as progress:
        folder = build_bank(
            cache_home() / "bank",
            recipe,
            model,
            lambda: [model.inputs(calibration, answered=True)],
            progress,
        )
    return Workbench(model, setup.model, Bank(folder, recipe, setup.model), setup.task)
