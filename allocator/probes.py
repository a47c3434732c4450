"""How far a quantized model is from full precision: what one group alone does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import FULL, Allocation, Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from allocator.core.ports import Sample
    from allocator.trial import Workbench


def kl(full: Tensor, other: Tensor) -> Tensor:
    """KL(full || other) of log-probabilities [..., vocabulary], in nats: [...].

    A rounding error may leave it just below 0: it is cut there.
    """
    return (full.exp() * (full - other)).sum(-1).clamp(min=0.0)


def damages(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    tick: Callable[[int], object] = lambda _: None,
) -> Mapping[tuple[str, Choice], float]:
    """KL to the full-precision model when one group alone gets a choice.

    Mean over samples and positions of KL(full || quantized) of the next token, in nats
    (`allocator.trial.Workbench.logits`). It adds up over groups only roughly: a prior,
    not a score.
    """
    full = Allocation.uniform(bench.spec, Choice(FULL))
    reference = bench.logits(full, samples)
    found: dict[tuple[str, Choice], float] = {}
    for key in bench.spec.keys:
        for choice in choices:
            gap = 0.0
            if choice.bits < FULL:
                other = bench.logits(full.replace({key: choice}), samples)
                gap = float(kl(reference, other).mean())
            found[key, choice] = gap
            tick(len(found))
    return found
