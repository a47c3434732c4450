"""What leaves the model where logits overflowed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.bench import probes
from allocator.bench.divergence import kl
from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice
from tests.searches import samples, space_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Sample
    from allocator.core.spec import ModelSpec

NONE = (math.nan, math.inf, -math.inf)


def overflows(allocation: Allocation) -> bool:
    return any(k.startswith("language") and c.bits == 2 for k, c in allocation)


def logits_of(spec: ModelSpec, value: float) -> tuple[SimpleNamespace, Allocation]:
    """A bench whose logits hold a value where a language group has 2 bits."""
    full = torch.tensor([[[0.5, 0.25, 0.25]]]).log().expand(4, 1, 3)

    def logits(
        allocation: Allocation,
        some: Sequence[Sample],
        ahead: Allocation | None = None,
    ) -> torch.Tensor:
        del some, ahead
        bits = sum(choice.bits for _, choice in allocation)
        other = (full + (1600 - bits) / 1e3).clone()
        other[..., 0] -= (16 * len(spec.keys) - bits) / 1e2
        if overflows(allocation):
            other[1, 0, 0] = value
        return other.log_softmax(-1)

    depths = {key: at for at, key in enumerate(spec.keys)}
    fake = SimpleNamespace(spec=spec, references={}, logits=logits, depths=depths)
    return fake, Allocation.uniform(spec, Choice(2, "awq"))


@pytest.mark.parametrize("value", NONE)
def test_damage_that_is_none_is_larger_than_all_the_others_together(
    toy: ModelSpec, value: float
) -> None:
    bench, _ = logits_of(toy, value)
    space = space_of(toy)
    found = probes.damages(bench, samples(4, "c"), space.choices)
    bad = {at for at in found if overflows(Allocation((at,)))}
    good = [found[at] for at in found if at not in bad]
    assert all(map(math.isfinite, found.values()))
    assert min(found[at] for at in bad) > sum(good)


def test_what_never_comes_up_at_full_precision_costs_nothing() -> None:
    full = torch.tensor([0.5, 0.5, 0.0]).log()
    assert float(kl(full, torch.tensor([0.5, 0.5, 0.0]).log())) == 0
    half = torch.tensor([0.25, 0.25, 0.5]).log()
    assert float(kl(full, half)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("value", NONE)
def test_a_divergence_tells_of_numbers_that_overflowed(
    toy: ModelSpec, value: float
) -> None:
    bench, low = logits_of(toy, value)
    found = Workbench.divergence(bench, low, samples(4, "s"))  # type: ignore[arg-type]
    # a logit of -inf is a token that is ruled out: as far off as can be, and a number
    assert math.isnan(found) or (value == -math.inf and 0 < found <= 1)
