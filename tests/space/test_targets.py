"""A space counts as the target stores, and so does what a study keeps of it."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Budget, Choice, Scheme, stored_size
from allocator.core.study import StudySpec
from allocator.core.targets import TARGETS
from allocator.space.model import KeptSpace, ModelSpace

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

# 4,096 parameters outside the groups of the toy
OTHERS = (("words", (30, 96)), ("head", (32, 32)), ("norm", (192,)))


def scheme_of(target: str) -> Scheme:
    sizes = TARGETS[target].defaults
    return Scheme(sizes["group_size"], sizes["symmetric"], target=target)


def space_of(spec: ModelSpec, target: str, budget: Budget) -> ModelSpace:
    widths = TARGETS[target].widths
    choices = tuple(Choice(b, None if b == 16 else "uniform") for b in widths)
    whole = replace(spec, others=OTHERS)
    return ModelSpace(whole, scheme_of(target), choices, budget)


@pytest.mark.parametrize("scope", ["model", "quantized"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_study_keeps_what_the_target_stores(
    toy: ModelSpec, target: str, scope: str
) -> None:
    budget = Budget(6.5, "bpw", "model" if scope == "model" else "quantized")
    model = space_of(toy, target, budget)
    kept = KeptSpace(json.loads(json.dumps(model.costs)), budget)
    assert kept.room == pytest.approx(model.room)
    assert kept.group_bytes == model.group_bytes
    rng = Random(0)
    for _ in range(50):
        picks = {key: rng.choice(model.choices) for key in model.keys}
        allocation = model.full.replace(picks)
        size = stored_size(model.spec, model.scheme, allocation)
        assert kept.bytes(allocation) == size.quantized_bytes
        assert kept.bpw(allocation) == pytest.approx(size.bpw(budget.scope))
        assert kept.bpw(allocation) == pytest.approx(model.bpw(allocation))
        assert kept.fits(allocation) == model.fits(allocation)


def test_a_study_of_before_has_two_bytes_for_every_parameter(toy: ModelSpec) -> None:
    model = space_of(toy, "none", Budget(4.0))
    costs = dict(model.costs)
    assert costs.pop("rest_bytes") == 2 * 4_096
    assert KeptSpace(costs, Budget(4.0)).room == pytest.approx(model.room)


def test_more_is_stored_than_a_dense_stream_takes(toy: ModelSpec) -> None:
    # fp32 scales and biases for groups, in place of fp16 scales and packed zero-points
    sizes = {
        target: space_of(toy, target, Budget(16.0)).near(Choice(4, "uniform"))
        for target in ("none", "mlx")
    }
    assert sizes["none"] == sizes["mlx"]
    dense = space_of(toy, "none", Budget(16.0)).size(sizes["none"])
    wide = space_of(toy, "mlx", Budget(16.0)).size(sizes["mlx"])
    # 672 rows of 64 in one group and 576 rows of 96 in three, each of 8 bytes; the same
    # rows have one grid of 2.5 bytes each otherwise, and 11 linears 16 bytes of shape
    assert wide.quantized_bytes == 49_152 + (672 + 3 * 576) * 8
    assert dense.quantized_bytes == 49_152 + 1_248 * 5 // 2 + 11 * 16


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_budget_full_precision_fits(toy: ModelSpec, target: str) -> None:
    asked = StudySpec.read({"front": True, "task": "vqav2", "target": target})
    model = space_of(toy, target, asked.limit)
    assert model.fits(model.full)
    # names of goals within it are those of before
    assert (asked.limit == Budget(16.0)) == (target == "none")
