"""The prior of a search: what each group does when it alone is quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.bench.divergence import kl, known
from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.finite import finite_damage

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample


def damages(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    tick: Callable[[int], object] = lambda _: None,
    found: MutableMapping[tuple[str, Choice], float] | None = None,
) -> dict[tuple[str, Choice], float]:
    """KL to the full-precision model when one group alone gets a choice.

    Mean over samples and positions of KL(full || quantized) of the next token, in nats
    (`allocator.bench.workbench.Workbench.logits`). It adds up over groups only
    roughly: a prior, not a score. What is among those `found` before is not probed
    again; the others go there as they are, each before `tick` is told how many there
    are. What is returned has a large number, beyond all the others, where logits
    overflowed (`allocator.core.finite.finite_damage`).
    """
    found = {} if found is None else found
    full = Allocation.uniform(bench.spec, Choice(FULL))
    reference = bench.logits(full, samples)
    rows = known(reference)
    for key in bench.spec.keys:
        for choice in choices:
            if (key, choice) in found:
                continue
            gap = 0.0
            if choice.bits < FULL:
                other = bench.logits(full.replace({key: choice}), samples)
                gap = float(kl(reference, other)[rows].mean())
            found[key, choice] = gap
            tick(len(found))
    return finite_damage(found)
