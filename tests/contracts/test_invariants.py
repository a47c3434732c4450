"""The rules that hold for every family, checked on the weights themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.bench import originals
from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.plugins import load
from allocator.core.weights import key_of, weight_of
from allocator.families import family_of
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
from tests.states import TITLES, VARIANTS, bank_of, copied, logits_of, made

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.ports import Family, Model, State
    from quant.bank import Bank

FULL = Choice(16)


CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


METHODS: Sequence[str] = ("uniform", "gptq", "awq")


@pytest.fixture(params=["cpu", CUDA], scope="module")
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@dataclass
class Bench(Workbench):
    """A workbench, and two prompts for its model."""

    state: State = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """What no test changes: a tiny model on disk, two prompts for it, its bank."""

    folder: Path
    model: Model
    state: State
    bank: Bank


@pytest.fixture(params=VARIANTS, ids=TITLES, scope="module")
def stored(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    device: str,
) -> Stored:
    name, variant = request.param
    family: Family = load("allocator.families", name)
    folder = tmp_path_factory.mktemp(name)
    state = made(family, folder / "model", variant)
    state = {key: value.to(device) for key, value in state.items()}
    model = family.load(folder / "model", device)
    methods = {name: load("quant.methods", name) for name in METHODS}
    recipe = Recipe("weights", ("a", "b"), Scheme(), methods, (2, 8, 16))
    spec = family.spec(folder / "model")
    bank = bank_of(folder / "bank", recipe, copied(model), spec, state)
    return Stored(folder / "model", model, state, bank)


@pytest.fixture
def bench(stored: Stored) -> Bench:
    """With a model of its own: tests change its weights."""
    bank = stored.bank
    return Bench(copied(stored.model), bank.spec, VQAV2, bank, state=stored.state)


@pytest.mark.parametrize("method", METHODS)
def test_a_group_at_two_bits_changes_each_of_its_weights_and_no_other(
    bench: Bench, method: str
) -> None:
    module = bench.model.module
    before = {name: p.clone() for name, p in module.named_parameters()}
    old = {x.name: weight_of(module, x.name).clone() for x in bench.spec.linears}
    full = Allocation.uniform(bench.spec, FULL)
    for group in bench.spec.groups:
        bench.apply(full.replace({group.key: Choice(2, method)}))
        changed = {
            n for n, p in module.named_parameters() if not torch.equal(p, before[n])
        }
        assert changed == {key_of(module, linear.name) for linear in group.linears}
        # experts share a parameter, and each of them is another matrix
        for linear in group.linears:
            assert not torch.equal(weight_of(module, linear.name), old[linear.name])


def test_an_exception_changes_its_linear_and_no_other(bench: Bench) -> None:
    module, spec = bench.model.module, bench.spec
    whole = Allocation.uniform(spec, Choice(8, "gptq"))
    bench.apply(whole)
    before = {name: p.clone() for name, p in module.named_parameters()}
    for linear in (spec.linears[0], spec.linears[-1]):
        found = whole.but({linear.name: Choice(2, "gptq")})
        bench.apply(found)
        changed = {
            n for n, p in module.named_parameters() if not torch.equal(p, before[n])
        }
        assert changed == {key_of(module, linear.name)}
        fine = bench.over(spec.by_linear())
        assert fine.applied(found.over(spec, fine.spec)) == bench.applied(found)
        assert bench.applied(found) != bench.applied(whole)
        # what is in place already is not exchanged, however it is grouped
        fine.apply(found.over(spec, fine.spec))
        assert bench.in_place.current == found.of_linears(spec)


def test_back_at_sixteen_bits_the_output_is_bit_identical(bench: Bench) -> None:
    before = logits_of(bench.model, bench.state)
    bench.apply(Allocation.uniform(bench.spec, Choice(2, "gptq")))
    assert not torch.equal(logits_of(bench.model, bench.state), before)
    bench.apply(Allocation.uniform(bench.spec, FULL))
    assert torch.equal(logits_of(bench.model, bench.state), before)


def test_what_is_read_again_from_a_checkpoints_files_is_bit_identical(
    stored: Stored, bench: Bench, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as models are that are too large to be copied
    monkeypatch.setattr(originals, "COPIED_BYTES", -1)
    monkeypatch.setattr(originals, "PINNED_SHARE", -1)
    family, module = family_of(stored.folder), bench.model.module
    bench.mapped = lambda: family.load(stored.folder, device, mapped=True).module
    before = {name: p.clone() for name, p in module.named_parameters()}
    bench.apply(Allocation.uniform(bench.spec, Choice(2, "uniform")))
    bench.restore()
    for name, parameter in module.named_parameters():
        assert parameter.dtype == before[name].dtype
        assert torch.equal(parameter, before[name]), name


def test_two_bits_leave_at_most_four_values_in_each_grid(bench: Bench) -> None:
    bench.apply(Allocation.uniform(bench.spec, Choice(2, "uniform")))
    for linear in bench.spec.linears:
        weight = weight_of(bench.model.module, linear.name)
        columns = Scheme().columns(linear.in_features)
        for row in weight.unflatten(1, (-1, columns)).flatten(0, 1):
            assert len(row.unique()) <= 4


def test_the_applied_digest_tells_allocations_apart_by_their_cells(
    bench: Bench,
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
