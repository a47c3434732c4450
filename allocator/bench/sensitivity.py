"""What groups do alone, without a probe each: from one backward pass over samples.

Two tables in the form of the prior (`allocator.bench.probes`), made for groups of any
grouping, single linears most of all. The Fisher-weighted one is the second order of the
KL to full precision: half of the mean, over what is drawn, of the squared output errors
of a linear times the squared gradients of its outputs, summed over outputs and tokens.
That is the diagonal form of NVIDIA ModelOpt's `auto_quantize` (0.47,
quantization/algorithms.py), which drops what errors of two outputs do together. It
sends back the gradient of a loss; here no reference is needed: what is sent back from
the logits is drawn with the covariance diag(p) - p p^T, the curvature of the KL for
next-token probabilities p of full precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.forward import looked_at
from allocator.bench.in_place import given
from allocator.core.allocation import FULL
from allocator.core.finite import finite_damage
from allocator.core.ports import POSITIONS
from allocator.core.weights import weight_of
from quant.gradients import passed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Choice
    from allocator.core.ports import Sample, State
    from allocator.core.spec import Linear
    from quant.gradients import Passed

    Table = dict[tuple[str, Choice], float]

# tokens whose outputs are held at once
TOKENS = 4096


@dataclass(frozen=True)
class Sensitivity:
    """What each group's choices do: two tables, finite, 0 at 16 bits.

    Attributes:
        fisher: about the KL to full precision, in nats.
        relative_error: |dW X|^2 / |W X|^2, summed over the linears of a group.
    """

    fisher: Table
    relative_error: Table


def sensitivity(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    seed: int = 0,
    tick: Callable[[int], object] = lambda _: None,
) -> Sensitivity:
    """Tables for the groups of a bench, which is at 16 bits behind it.

    Args:
        bench: a model and its bank.
        samples: as the prior's: the bank's own calibration, or a part of it.
        choices: of every group.
        seed: of what is sent back.
        tick: is told the linears done, of each batch anew.
    """
    bench.restore()
    low = [choice for choice in choices if choice.bits < FULL]
    sums = {linear.name: _Sums(linear) for linear in bench.spec.linears}
    # never one of the device's own: equal seeds are to give equal tables
    random, drawn, done = torch.Generator().manual_seed(seed), 0, 0
    # where the head is in a group, all that it reads counts
    is_read = any(name in sums for name in bench.model.stages()[-1].linears)
    for batch in bench.batches(samples):
        state, replied = bench.prompted(batch)
        places = looked_at(len(batch), replied)
        if not is_read:
            state = {**state, POSITIONS: places}

        def sent(after: State, places: Tensor = places) -> Any:
            nonlocal drawn
            logits = after["logits"]
            if is_read:
                logits = logits[torch.arange(len(places))[:, None], places]
            logits, gradient, count = _sent(logits, random)
            drawn += count
            return logits, gradient

        for each in passed(bench.model, state, sums, sent):
            sums[each.name].add(bench, each, low)
            done += 1
            tick(done)
    return _tables(bench, sums, choices, max(drawn, 1))


def _sent(at: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Logits of next tokens, what is sent back from there, and how many they are.

    With e normal and r the roots of the probabilities p, r * e - p (r . e) has mean 0
    and the covariance diag(p) - p p^T. Where a sample has no numbers it is 0.
    """
    shares = at.detach().float().softmax(-1)
    normal = torch.randn(shares.shape, generator=random).to(shares.device)
    normal *= shares.sqrt()
    drawn = normal - shares * normal.sum(-1, keepdim=True)
    known = ~shares.isnan().any(-1)
    drawn[~known] = 0.0
    return at, drawn.to(at.dtype), int(known.sum())


@dataclass(eq=False)
class _Sums:
    """Sums over the tokens that passed through a linear.

    `costs` and `errors` hold one for each choice below 16 bits; `size` is that of the
    outputs.
    """

    linear: Linear
    costs: Any = 0.0
    errors: Any = 0.0
    size: Any = 0.0

    @torch.no_grad()
    def add(self, bench: Workbench, each: Passed, low: Sequence[Choice]) -> None:
        """Count in what passed in a batch."""
        cells = given(bench.bank)
        weight = weight_of(bench.model.module, self.linear.name).float()
        pieces = [
            (read, gradient.float().square_())
            for read, gradient in zip(
                torch.split(each.read, TOKENS),
                torch.split(each.gradient, TOKENS),
                strict=True,
            )
        ]
        for read, _ in pieces:
            self.size += float(_given(read, weight).square().sum(dtype=torch.float64))
        costs, errors = [], []
        delta = torch.empty_like(weight)
        for choice in low:
            cells.put(self.linear, choice, delta)
            delta -= weight
            cost = error = 0.0
            for read, gradient in pieces:
                moved = _given(read, delta).square_()
                error += float(moved.sum())
                cost += float((moved * gradient).sum())
            costs.append(cost)
            errors.append(error)
        self.costs += torch.tensor(costs, dtype=torch.float64)
        self.errors += torch.tensor(errors, dtype=torch.float64)


def _given(read: Tensor, weight: Tensor) -> Tensor:
    """What a weight [out, in] makes of what is read: [n, out], float32."""
    if not read.is_floating_point():
        return weight[read]
    return read.float() @ weight.T


def _tables(
    bench: Workbench,
    sums: dict[str, _Sums],
    choices: Sequence[Choice],
    drawn: int,
) -> Sensitivity:
    fisher: Table = {}
    relative: Table = {}
    for group in bench.spec.groups:
        own = [sums[linear.name] for linear in group.linears]
        for choice in choices:
            fisher[group.key, choice] = relative[group.key, choice] = 0.0
        for at, choice in enumerate(c for c in choices if c.bits < FULL):
            here = group.key, choice
            fisher[here] = sum(float(each.costs[at]) for each in own) / 2 / drawn
            relative[here] = sum(
                float(each.errors[at]) / each.size for each in own if each.size > 0
            )
    return Sensitivity(finite_damage(fisher), finite_damage(relative))
