"""The rules that hold for every family, checked on the weights themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.plugins import available, load
from allocator.trial import Workbench
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
from tests.states import bank_of, logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.ports import Family

FULL = Choice(16)


CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=available("allocator.families"))
def bench(request: pytest.FixtureRequest, tmp_path: Path, device: str) -> Workbench:
    torch.manual_seed(0)
    family: Family = load("allocator.families", request.param)
    family.tiny(tmp_path / "model")
    model = family.load(tmp_path / "model", device)
    spec = family.spec(tmp_path / "model")
    methods = {name: load("quant.methods", name) for name in METHODS}
    recipe = Recipe("weights", ("a", "b"), Scheme(), methods, (2, 8, 16))
    bank = bank_of(tmp_path / "bank", recipe, model, spec)
    return Workbench(model, spec, VQAV2, bank)


METHODS: Sequence[str] = ("uniform", "gptq", "awq")


@pytest.mark.parametrize("method", METHODS)
def test_a_group_at_two_bits_changes_each_of_its_weights_and_no_other(
    bench: Workbench, method: str
) -> None:
    module = bench.model.module
    before = {name: p.clone() for name, p in module.named_parameters()}
    full = Allocation.uniform(bench.spec, FULL)
    for group in bench.spec.groups:
        bench.apply(full.replace({group.key: Choice(2, method)}))
        changed = {
            n for n, p in module.named_parameters() if not torch.equal(p, before[n])
        }
        assert changed == {f"{linear.name}.weight" for linear in group.linears}


def test_back_at_sixteen_bits_the_output_is_bit_identical(bench: Workbench) -> None:
    before = logits_of(bench.model)
    bench.apply(Allocation.uniform(bench.spec, Choice(2, "gptq")))
    assert not torch.equal(logits_of(bench.model), before)
    bench.apply(Allocation.uniform(bench.spec, FULL))
    assert torch.equal(logits_of(bench.model), before)


def test_two_bits_leave_at_most_four_values_in_each_grid(bench: Workbench) -> None:
    bench.apply(Allocation.uniform(bench.spec, Choice(2, "uniform")))
    for linear in bench.spec.linears:
        weight = bench.model.module.get_submodule(linear.name).weight
        for row in weight.unfold(1, linear.in_features, linear.in_features)[:, 0]:
            # the tiny layers are at most one group of 128 wide
            assert len(row.unique()) <= 4


def test_the_applied_digest_tells_allocations_apart_by_their_cells(
    bench: Workbench,
) -> None:
    digests = {
        bench.applied(Allocation.uniform(bench.spec, choice))
        for choice in (
            FULL,
            Choice(2, "uniform"),
            Choice(8, "uniform"),
            Choice(2, "awq"),
        )
    }
    assert len(digests) == 4
