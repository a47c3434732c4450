"""What the tests of finalized weights share."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import Choice, Scheme
from allocator.core.plugins import available, load
from quant.assignment import Assignment
from quant.bank import Recipe
from quant.build import Source
from quant.sequential import quantize_in_sequence
from tests.quant.banks import FAMILY, Loaded, prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import State
    from allocator.core.spec import ModelSpec
    from quant.finalized import Finalized

METHODS = tuple(available("quant.methods"))
FULL = Choice(16)


def recipe_of(*methods: str, **changes: Any) -> Recipe:
    made_by = {name: load("quant.methods", name) for name in methods or METHODS}
    asked = Recipe("weights", ("a", "b"), Scheme(), made_by, (2, 3, 4, 16))
    return replace(asked, **changes)


def assigned(spec: ModelSpec, *choices: Choice, **changes: Any) -> Assignment:
    """Choices dealt out to a model's groups in turn."""
    return Assignment(
        recipe_of(**changes),
        {
            linear.name: choices[at % len(choices)]
            for at, group in enumerate(spec.groups)
            for linear in group.linears
        },
    )


def in_sequence(
    root: Path,
    wanted: Assignment,
    loaded: Loaded,
    state: State | None = None,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Finalized:
    model, spec = loaded
    source = Source(lambda: model, lambda _: [dict(state or prompts())])
    return quantize_in_sequence(root, wanted, spec.linears, source, progress)


def die_after(count: int, root: Path, folder: Path) -> None:
    """Be killed once some linears are done."""

    def progress(done: int, _: int) -> None:
        if done >= count:
            os.kill(os.getpid(), signal.SIGKILL)

    loaded = FAMILY.load(folder, "cpu", mapped=True), FAMILY.spec(folder)
    in_sequence(root, assigned(loaded[1], Choice(2, "gptq")), loaded, progress=progress)


if __name__ == "__main__":
    die_after(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
