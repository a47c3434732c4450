"""What a request takes of the host's memory all the time: nothing of it can shrink.

Batches and caches divide what is left (`allocator.core.memory`). It is counted, not
seen, so that one limit gives one result.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from allocator.core.amounts import in_bytes
from allocator.core.errors import SpecError
from allocator.core.memory import allow, host_bytes
from allocator.core.plugins import load
from quant.bank import Recipe
from quant.needs import building, tuning_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Split
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec

# anonymous bytes of the libraries that every request imports, of those that a device
# brings to the host, and of what a search learns and explains with, as
# studies/scale/README.md has them
LIBRARIES, OF_DEVICE, LEARNING = 390 * 10**6, 10**9, 160 * 10**6
# without so much more nothing can run: a sample, what a stage has of it, a little kept
LEAST = 96 * 10**6


def reserve(
    asked: StudySpec,
    model: ModelSpec,
    scheme: Scheme,
    device: str,
    arithmetic: str,
    splits: Collection[Split],
) -> None:
    """Let a request have the memory that was asked for; refuse where that cannot do.

    Args:
        asked: the request.
        model: its model.
        scheme: the grid apart from its width.
        device: where it computes.
        arithmetic: kind of device and type.
        splits: sets of samples that it reads, which tell what it does: a bank is made
            of calibration samples, those for evaluation need the whole model, and a
            search has some of its own.

    Raises:
        SpecError: says what it takes at least.
    """
    taken = reserved_bytes(asked, model, scheme, device, arithmetic, splits)
    allow(asked.memory_bytes, taken)
    if asked.memory is not None and taken + LEAST > host_bytes():
        raise SpecError(
            f"{asked.model} takes at least {in_bytes(taken + LEAST)} of memory here, "
            f"and --memory {asked.memory} is {in_bytes(host_bytes())}"
        )


def reserved_bytes(
    asked: StudySpec,
    model: ModelSpec,
    scheme: Scheme,
    device: str,
    arithmetic: str,
    splits: Collection[Split],
) -> int:
    """Bytes of the host's memory that a request takes all the time.

    Args: see `reserve`.
    """
    on_cpu = device.startswith("cpu")
    taken = LIBRARIES + (0 if on_cpu else OF_DEVICE)
    if "search" in splits:
        taken += LEARNING
    if "evaluation" in splits and on_cpu:
        taken += model_bytes(model, arithmetic)
    if "calibration" in splits:
        # finalizing gathers inputs for whatever method
        names = {*asked.methods, *(["gptq"] if asked.finalize else [])}
        methods = {name: load("quant.methods", name) for name in sorted(names)}
        recipe = Recipe("", (), scheme, methods, asked.widths, arithmetic)
        lacking = {linear.name: recipe.keys for linear in model.linears}
        block = building(recipe, model.linears, lacking, device, held=0).host
        if asked.finalize and asked.tunes(model.parameters) and on_cpu:
            block = max(block, tuning_bytes(model.linears))
        # a stage may have embeddings beside its block, in float32 while it runs
        largest = max((prod(shape) for _, shape in model.others), default=0)
        taken += block + (4 * largest if on_cpu else 0)
    return taken


def model_bytes(model: ModelSpec, arithmetic: str) -> int:
    """Bytes of a model at full precision, as it computes."""
    return model.parameters * (4 if arithmetic.endswith("float32") else 2)
