"""What the tests of the bank share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from allocator.core.plugins import load
from allocator.families._tiny import IMAGE, two_prompts
from quant.build import Source, build_bank
from tests.states import copied

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import State
    from quant.bank import Recipe


FAMILY = load("allocator.families", "llava")
Loaded = tuple[Any, Any]


class Counted:
    """A method that counts how often it is asked for each width."""

    version = 1

    def __init__(self) -> None:
        self.widths: Counter[int] = Counter()

    def quantize(self, weights: Any, x: Any, scheme: Any, widths: Any, **o: Any) -> Any:
        for bits in widths:
            self.widths[bits] += len(weights)
        uniform = load("quant.methods", "uniform")
        return uniform.quantize(weights, x, scheme, widths, **o)


def prompts() -> State:
    """Two prompts for the tiny model."""
    return two_prompts([IMAGE] * 4, (2, 3, 16, 16))


def apart(loaded: Loaded) -> Loaded:
    """A model of one's own: a pass changes a model while it runs."""
    model, spec = loaded
    return copied(model), spec


def build(root: Path, recipe: Recipe, loaded: Loaded) -> int:
    model, spec = loaded
    source = Source(lambda: model, lambda _: [prompts()])
    return build_bank(root, recipe, spec.linears, source)
