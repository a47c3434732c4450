"""Of every family: finalized weights are measured as a checkpoint stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.plugins import load
from allocator.core.weights import TRANSPOSED, slice_of
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
from quant.folding import folded
from quant.grid import decode
from tests.quant.sequences import assigned, in_sequence
from tests.states import TITLES, VARIANTS, bank_of, copied, logits_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import State
    from quant.finalized import Finalized

AWQ = Choice(3, "awq")


@dataclass(frozen=True)
class Case:
    model: Any
    mapped: Any
    spec: Any
    state: State
    folder: Path

    @property
    def bench(self) -> Workbench:
        return Workbench(copied(self.model), self.spec, VQAV2)

    @property
    def allocation(self) -> Allocation:
        return Allocation.uniform(self.spec, AWQ)


@pytest.fixture(params=VARIANTS, ids=TITLES, scope="module")
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    name, variant = request.param
    family, folder = load("allocator.families", name), tmp_path_factory.mktemp(name)
    state = made(family, folder / "model", variant)
    loaded = (family.load(folder / "model", "cpu", mapped=m) for m in (False, True))
    return Case(*loaded, family.spec(folder / "model"), state, folder)


@pytest.fixture(scope="module")
def finalized(case: Case) -> Finalized:
    wanted = assigned(case.spec, AWQ)
    return in_sequence(case.folder, wanted, (case.mapped, case.spec), case.state)


def parameters(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.module.named_parameters()}


def put(model: Any, values: dict[str, Tensor], name: str, weight: Tensor) -> None:
    """Put a linear's weight among parameters; an expert's is a part of one."""
    found = slice_of(model.module, name)
    if found is None:
        values[f"{name}.weight"] = weight
    else:
        owner = model.module.get_submodule(found.stack.rpartition(".")[0])
        turned = getattr(owner, TRANSPOSED, False)
        values[found.stack] = values[found.stack].clone()
        values[found.stack][found.number] = weight.T if turned else weight


def test_finalized_weights_in_place_are_codes_and_what_folding_changed(
    case: Case, finalized: Finalized
) -> None:
    bench, changed = case.bench, finalized.changed()
    before = parameters(bench.model)
    with bench.under(finalized) as other:
        other.apply(case.allocation)
        here = parameters(other.model)
    expected = {**before, **{name: x.float() for name, x in changed.items()}}
    for linear in case.spec.linears:
        cell = finalized.cell(linear, AWQ)
        assert cell.channel_scale is None
        put(case.model, expected, linear.name, decode(cell.codes, cell))
    assert changed
    assert changed.keys() <= here.keys()
    assert all(torch.equal(value, expected[name]) for name, value in here.items())
    # and full precision comes back as it was
    after = parameters(bench.model)
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_folding_the_scales_of_a_bank_hardly_moves_the_logits(case: Case) -> None:
    methods = {"awq": load("quant.methods", "awq")}
    recipe = Recipe("weights", ("a", "b"), Scheme(), methods, (3, 16))
    bank = bank_of(case.folder, recipe, case.mapped, case.spec, case.state)
    bench = case.bench
    full = logits_of(bench.model, case.state)
    bench.bank = bank
    bench.apply(case.allocation)
    plain = logits_of(bench.model, case.state)
    bench.restore()
    linears = {linear.name: linear for linear in case.spec.linears}
    folds = folded(
        bench.model.stages(),
        linears,
        lambda name: bank.part(linears[name], AWQ, "channel_scale"),
        dict(bench.model.module.named_parameters()),
        torch.float16,
    )
    assert folds.changed
    values = {**parameters(bench.model), **folds.changed}
    for name, linear in linears.items():
        cell = folds.cell(name, bank.cell(linear, AWQ))
        put(case.model, values, name, decode(cell.codes, cell))
    with torch.no_grad():
        for name, value in values.items():
            bench.model.module.get_parameter(name).copy_(value)
    moved = logits_of(bench.model, case.state) - plain
    assert 0 < moved.abs().max() < (plain - full).abs().max() / 20
