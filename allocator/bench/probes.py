"""The prior of a search: what each group does when it alone is quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.bench.divergence import kl, known
from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.finite import finite_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample


def damages(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    tick: Callable[[int], object] = lambda _: None,
) -> Mapping[tuple[str, Choice], float]:
    """KL to the full-precision model when one group alone gets a choice.

    Mean over samples and positions of KL(full || quantized) of the next token, in nats
    (`allocator.bench.workbench.Workbench.logits`). It adds up over groups only
    roughly: a prior, not a score. Where logits overflowed it is a large number, beyond
    all the others (`allocator.core.finite.finite_damage`).
    """
    full = Allocation.uniform(bench.spec, Choice(FULL))
    reference = bench.logits(full, samples)
    rows = known(reference)
    found: dict[tuple[str, Choice], float] = {}
    for key in bench.spec.keys:
        for choice in choices:
            gap = 0.0
            if choice.bits < FULL:
                other = bench.logits(full.replace({key: choice}), samples)
                gap = float(kl(reference, other)[rows].mean())
            found[key, choice] = gap
            tick(len(found))
    return finite_damage(found)
