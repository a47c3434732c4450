"""Banks and finalized weights as a checkpoint stores them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.bench.finalize import finalize, score_finalized
from allocator.bench.folded import fold_difference, folded_of
from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import BankError
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.folding import FoldError
from quant.grid import decode
from quant.lru_cache import LRUCache
from tests.quant.banks import FAMILY
from tests.quant.sequences import assigned, in_sequence
from tests.states import made
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.core.ports import Model, Score
    from quant.finalized import Finalized

AWQ, FULL = Choice(3, "awq"), Choice(16)


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        yield


@pytest.fixture(scope="module")
def setup() -> Setup:
    small = {"widths": (3, 16), "calibration": 8, "fraction": 0.02}
    model = {"model": "tiny-llava", "methods": ("awq",), "device": "cpu"}
    return prepare(StudySpec("16", "vqav2", **model, **small))


@pytest.fixture(scope="module")
def bench(setup: Setup) -> Workbench:
    return open_bench(setup, Silent())


@pytest.fixture(scope="module")
def mapped(setup: Setup) -> Model:
    return setup.family.load(setup.folder, "cpu", mapped=True)


@pytest.fixture(scope="module")
def mixed(setup: Setup) -> Allocation:
    """The language model at 3 bits, all else at 16."""
    keys = setup.model.keys
    low = {key: AWQ for key in keys if key.startswith("language")}
    return Allocation.of(keys, {**dict.fromkeys(keys, FULL), **low})


@pytest.fixture(scope="module")
def finalized(setup: Setup, mixed: Allocation) -> Finalized:
    return finalize(setup, mixed, Silent())


def test_a_bank_is_folded_as_it_is_read(
    setup: Setup, bench: Workbench, mapped: Model, mixed: Allocation
) -> None:
    found = folded_of(setup, mixed, bench.bank, mapped)
    choices = mixed.of_linears(setup.model)
    scaled = 0
    for linear in setup.model.linears:
        if choices[linear.name] == FULL:
            with pytest.raises(BankError, match="16-bit weights"):
                found.cell(linear.name)
            continue
        own, cell = bench.bank.cell(linear, AWQ), found.cell(linear.name)
        scaled += own.channel_scale is not None
        assert cell.channel_scale is None
        assert torch.equal(cell.codes, own.codes)
        scale = bench.bank.part(linear, AWQ, "channel_scale")
        assert (scale is None) == (own.channel_scale is None)
        assert scale is None or torch.equal(scale, own.channel_scale)
    assert scaled
    assert found.changed
    assert all(name.startswith("model.language_model") for name in found.changed)


def test_folding_a_bank_is_measured_on_samples(
    setup: Setup, bench: Workbench, mapped: Model, mixed: Allocation
) -> None:
    samples = setup.samples["calibration"]
    found = folded_of(setup, mixed, bench.bank, mapped)
    assert 0 < fold_difference(bench, found, mixed, samples) < 2e-3
    # a fold that was forgotten is seen
    broken = replace(found, changed={})
    assert fold_difference(bench, broken, mixed, samples) > 1e-2
    assert set(bench.in_place.current.values()) == {FULL}


def test_finalized_weights_are_given_as_they_were_measured(
    setup: Setup,
    bench: Workbench,
    mapped: Model,
    mixed: Allocation,
    finalized: Finalized,
) -> None:
    found = folded_of(setup, mixed, finalized, mapped)
    here = {}
    for cells in (finalized, found):
        with bench.under(cells) as other:
            other.apply(mixed)
            named = bench.model.module.named_parameters()
            here[id(cells)] = {name: value.clone() for name, value in named}
    one, same = here.values()
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    linear = setup.model.linears[-1]
    cell = found.cell(linear.name)
    assert torch.equal(one[f"{linear.name}.weight"], decode(cell.codes, cell))
    assert set(found.changed) == set(finalized.changed_sums)


def test_a_part_of_finalized_weights_is_refused_and_nothing_stays(
    bench: Workbench, mixed: Allocation, finalized: Finalized
) -> None:
    key = next(key for key, choice in mixed if choice == AWQ)
    part = mixed.replace({key: FULL})
    before = {n: p.clone() for n, p in bench.model.module.named_parameters()}
    with bench.under(finalized) as other:
        other.apply(mixed)
        with pytest.raises(BankError, match="all together, or not at all"):
            other.apply(part)
        now = bench.model.module.named_parameters()
        assert all(torch.equal(value, before[name]) for name, value in now)


def test_a_scale_that_does_not_fold_is_told_before_anything_is_written(
    setup: Setup,
    bench: Workbench,
    mapped: Model,
    mixed: Allocation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quant.folding.LOSS", -1.0)
    with pytest.raises(FoldError, match=r"scale that folds into .* leaves numbers"):
        folded_of(setup, mixed, bench.bank, mapped)


def test_a_source_in_float32_is_measured_in_sixteen_bits(tmp_path: Path) -> None:
    """A checkpoint stores what has no codes in 16 bits, and full precision does not."""
    state = made(FAMILY, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    stored = {name: value.float() * 1.0001 for name, value in load_file(file).items()}
    save_file(stored, file, {"format": "pt"})
    spec = FAMILY.spec(tmp_path / "model")
    mapped = FAMILY.load(tmp_path / "model", "cpu", mapped=True)
    found = in_sequence(tmp_path, assigned(spec, FULL, AWQ), (mapped, spec), state)
    bench = Workbench(FAMILY.load(tmp_path / "model", "cpu"), spec, VQAV2)
    before = {n: p.clone() for n, p in bench.model.module.named_parameters()}
    allocation = Allocation.of(
        spec.keys, {g.key: found.choices[g.linears[0].name] for g in spec.groups}
    )
    with bench.under(found) as other:
        other.apply(allocation)
        for name, value in bench.model.module.named_parameters():
            if name.removesuffix(".weight") not in found.keys:
                assert torch.equal(value, value.half().float()), name
        other.apply(Allocation.uniform(spec, FULL))
        now = bench.model.module.named_parameters()
        assert all(torch.equal(value, before[name]) for name, value in now)


def test_finalized_weights_share_what_equal_cells_make_of_pictures(
    setup: Setup, bench: Workbench
) -> None:
    keys, samples = setup.model.keys, setup.samples["evaluation"]
    vision = [key for key in keys if key.startswith("vision")]
    language = [key for key in keys if key.startswith("language")]

    def scored(*low: str) -> tuple[Score, int]:
        wanted = dict.fromkeys(keys, FULL) | dict.fromkeys(low, AWQ)
        allocation, before = Allocation.of(keys, wanted), bench.cost.ran
        weights = finalize(setup, allocation, Silent())
        score, _ = score_finalized(bench, weights, allocation, samples)
        return score, bench.cost.ran - before

    bench.features = LRUCache(2**28)
    assert scored(vision[0], *language)[1] > 0
    shared, ran = scored(vision[0], *language[:-1])
    assert ran == 0
    # other cells in front, and equal ones of which nothing is kept
    assert scored(vision[1], *language)[1] > 0
    bench.features = LRUCache(0)
    assert scored(vision[0], *language[:-1])[0] == shared
