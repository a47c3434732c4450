from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from allocator.bench.evaluate import evaluate_model
from allocator.bench.finalize import (
    finalize,
    finalized_digest,
    finalized_home,
    open_finalized,
    score_finalized,
)
from allocator.bench.loading import judges_of, open_bench, tuning_of
from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation, Budget, Choice
from allocator.core.errors import AllocateError, BankError, SpecError
from allocator.core.plan import plan_json
from allocator.core.plugins import load
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.strategies._moves import scatter
from quant.assignment import Assignment
from quant.bank import MANIFEST
from quant.lru_cache import LRUCache
from tests.exporters.plans import write_plan
from tests.quant.by_hand import by_hand, effective
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from quant.finalized import Finalized

CASES = [("tiny-blip2", "vqav2"), ("tiny-llava", "vqav2"), ("tiny-blip2", "flickr30k")]
METHODS = ("uniform", "gptq", "awq")
FULL = Choice(16)


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        yield


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def setup(request: pytest.FixtureRequest) -> Setup:
    model, task = request.param
    small = {"widths": (2, 3, 16), "calibration": 32, "fraction": 0.02}
    asked = StudySpec("16", task, model=model, methods=METHODS, device="cpu", **small)
    return prepare(asked)


@pytest.fixture(scope="module")
def bench(setup: Setup) -> Workbench:
    return open_bench(setup, Silent())


@pytest.fixture(scope="module")
def mixed(setup: Setup) -> Allocation:
    """Every method, every width and 16 bits."""
    space = replace(setup.space, budget=Budget(6.0))
    found = scatter(space, np.random.default_rng(1))
    assert {choice.method for _, choice in found} == {*METHODS, None}
    return found


@pytest.fixture(scope="module")
def finalized(setup: Setup, mixed: Allocation) -> Finalized:
    return finalize(setup, mixed, Silent())


def weights_of(bench: Workbench) -> dict[str, torch.Tensor]:
    return {n: p.clone() for n, p in bench.model.module.named_parameters()}


def same(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, others[name]) for name, weight in some.items())


@pytest.mark.slow
@pytest.mark.parametrize("corrected", [False, True])
def test_a_trained_model_is_what_replacing_one_set_at_a_time_gives(
    setup: Setup, mixed: Allocation, corrected: bool
) -> None:
    choices = mixed.of_linears(setup.model)
    methods = {name: load("quant.methods", name) for name in METHODS}
    found = finalize(setup, mixed, Silent(), corrected=corrected)
    models = [setup.family.load(setup.folder, "cpu") for _ in range(2)]
    state = models[0].inputs(setup.samples["calibration"], answered=True)
    recipe: Any = type("Recipe", (), {"methods": methods, "key": lambda *_: "x"})()
    naive = by_hand(*models, Assignment(recipe, choices, corrected), state)
    assert set(naive) == set(found.keys)
    for linear in setup.model.linears:
        if linear.name in naive:
            weight = found.weight(linear, choices[linear.name])
            assert torch.equal(weight, effective(naive[linear.name])), linear.name


def test_all_at_sixteen_bits_is_the_model_bit_by_bit(
    setup: Setup, bench: Workbench
) -> None:
    bench.restore()
    before = weights_of(bench)
    full = setup.space.full
    found = finalize(setup, full, Silent())
    with bench.under(found) as other:
        other.apply(full)
        assert same(before, weights_of(other))
    samples = setup.samples["evaluation"]
    score, applied = score_finalized(bench, found, full, samples)
    assert score == bench.score(full, samples)
    assert applied == bench.applied(full)


def test_bank_and_finalized_weights_never_mix(
    setup: Setup, bench: Workbench, finalized: Finalized, mixed: Allocation
) -> None:
    samples = setup.samples["evaluation"]
    bench.restore()
    original = weights_of(bench)
    of_bank = bench.score(mixed, samples)
    in_place = weights_of(bench)
    score, applied = score_finalized(bench, finalized, mixed, samples)
    assert same(original, weights_of(bench))
    assert applied != bench.applied(mixed)
    # neither the weights nor what was kept of the pictures came from the other
    assert bench.score(mixed, samples) == of_bank
    assert same(in_place, weights_of(bench))
    assert score_finalized(bench, finalized, mixed, samples) == (score, applied)
    # a model of its own says the same
    model = setup.family.load(setup.folder, "cpu")
    alone = replace(bench, bank=finalized, model=model, features=LRUCache(0))
    assert alone.score(mixed, samples) == score
    assert alone.applied(mixed) == applied


def test_a_failure_halfway_leaves_the_model_at_sixteen_bits(
    setup: Setup, bench: Workbench, finalized: Finalized, mixed: Allocation
) -> None:
    bench.restore()
    before = weights_of(bench)
    last = [x.name for x in setup.model.linears if x.name in finalized.keys][-1]

    class Failing:
        cell_sum = finalized.cell_sum

        @staticmethod
        def put(linear: Any, choice: Choice, out: torch.Tensor) -> int:
            if linear.name == last:
                raise BankError("gone")
            return finalized.put(linear, choice, out)

    with pytest.raises(BankError, match="gone"), bench.under(Failing()) as other:
        other.apply(mixed)
    assert same(before, weights_of(bench))
    assert set(bench.in_place.current.values()) == {FULL}


def test_what_was_made_is_opened_without_a_model(
    setup: Setup, finalized: Finalized, mixed: Allocation
) -> None:
    class Refusing:
        def load(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("loaded")

    unloaded: Any = replace(setup, family=Refusing())  # type: ignore[arg-type]
    assert finalize(unloaded, mixed, Silent()) == finalized
    assert finalized.digest == finalized_digest(setup, mixed)
    assert finalized.folder == finalized_home() / finalized.digest
    assert open_finalized(finalized.digest) == finalized


@pytest.mark.parametrize("name", ["../studies", "", "F" * 16, "0" * 15])
def test_what_is_no_digest_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="names no finalized weights"):
        open_finalized(name)


def reads_of(bench: Workbench, setup: Setup) -> dict[str, torch.Tensor]:
    """What each linear reads on the calibration samples, padding included."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, read: torch.Tensor) -> None:
        found[name] = read.flatten(0, -2)

    hooks = [
        bench.model.module.get_submodule(linear.name).register_forward_pre_hook(
            lambda _, args, name=linear.name: keep(name, args[0])
        )
        for linear in setup.model.linears
    ]
    state = bench.model.inputs(setup.samples["calibration"], answered=True)
    with torch.inference_mode():
        for stage in bench.model.stages():
            state = stage.run(state)
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture(scope="module")
def full(setup: Setup, bench: Workbench) -> dict[str, torch.Tensor]:
    bench.restore()
    return reads_of(bench, setup)


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_most_outputs_are_nearer_to_full_precision_than_under_the_bank(
    setup: Setup, bench: Workbench, full: Any, method: str, bits: int
) -> None:
    choice = Choice(bits, method)
    allocation = Allocation.uniform(setup.model, choice)
    bench.apply(allocation)
    reads = {"full": full, "bank": reads_of(bench, setup)}
    found = finalize(setup, allocation, Silent())
    with bench.under(found) as other:
        other.apply(allocation)
        reads["finalized"] = reads_of(other, setup)
    errors: dict[str, list[float]] = {"bank": [], "finalized": []}
    for linear in setup.model.linears:
        weight = bench.model.module.get_submodule(linear.name).weight
        wanted = reads["full"][linear.name] @ weight.T
        for name, cells in (("bank", bench.bank), ("finalized", found)):
            given = reads[name][linear.name] @ cells.weight(linear, choice).T
            errors[name].append(float((given - wanted).norm() / wanted.norm()))
    pairs = list(zip(errors["bank"], errors["finalized"], strict=True))
    means = {name: sum(each) / len(each) for name, each in errors.items()}
    assert sum(own <= bank for bank, own in pairs) > len(pairs) / 2
    assert means["finalized"] < means["bank"]


@pytest.fixture
def exported(
    setup: Setup, finalized: Finalized, mixed: Allocation, tmp_path: Path
) -> Path:
    plan = plan_json(setup.asked, setup.model, mixed, finalized.digest)
    return write_plan(plan, finalized.folder, tmp_path / "out")


def test_an_exported_plan_scores_exactly_what_was_measured(
    bench: Workbench,
    setup: Setup,
    finalized: Finalized,
    mixed: Allocation,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = setup.samples["evaluation"]
    score, applied = score_finalized(bench, finalized, mixed, samples)
    # neither the study's home nor a bank is needed
    monkeypatch.setenv("XDG_DATA_HOME", str(exported.parent / "elsewhere"))
    found = evaluate_model({}, exported, Silent())
    assert found["finalized"] == finalized.digest
    assert found["score"] == pytest.approx(score.mean, abs=0)
    assert found["applied"] == applied
    assert [each["value"] for each in found["values"]] == list(score.values)


def test_nothing_but_the_plan_its_weights_and_a_card_is_written(
    exported: Path, finalized: Finalized
) -> None:
    beside = {file.name for file in exported.parent.iterdir()}
    assert beside == {"README.md", "finalized", "plan.json"}
    names = {file.name for file in (exported.parent / "finalized").iterdir()}
    stored = (*finalized.keys, "changed")
    assert names == {MANIFEST, *(f"{name}.safetensors" for name in stored)}


def edited(plan: Path, **changes: Any) -> None:
    plan.write_text(json.dumps({**json.loads(plan.read_text()), **changes}))


def refused(plan: Path, **options: Any) -> str:
    with pytest.raises(AllocateError) as caught:
        evaluate_model(options, plan, Silent())
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_weights_that_are_gone_or_damaged_are_told_in_one_sentence(
    exported: Path, finalized: Finalized
) -> None:
    folder = exported.parent / "finalized"
    file = folder / f"{next(iter(finalized.keys))}.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = refused(exported)
    assert "not what was written; export the plan again" in said
    file.unlink()
    assert "are damaged" in refused(exported)
    (folder / MANIFEST).unlink()
    assert "there are no finalized weights in" in refused(exported)


def test_weights_of_another_plan_are_refused(exported: Path, mixed: Allocation) -> None:
    key = next(key for key, choice in mixed if choice.method == "gptq")
    groups = json.loads(exported.read_text())["groups"]
    other = {**groups, key: {"bits": 16, "method": None}}
    edited(exported, finalized="0" * 16)
    assert "other finalized weights than the plan's" in refused(exported)
    edited(exported, groups=other, layers={})
    assert "not at 16" in refused(exported)


def test_a_plan_without_finalized_weights_is_scored_from_the_bank(
    bench: Workbench, mixed: Allocation, exported: Path
) -> None:
    edited(exported, finalized=None)
    found = evaluate_model({}, exported, Silent())
    assert found["finalized"] is None
    assert found["applied"] == bench.applied(mixed)


def test_an_export_whose_weights_are_gone_says_so(
    setup: Setup, mixed: Allocation, tmp_path: Path
) -> None:
    plan = plan_json(setup.asked, setup.model, mixed, "0" * 16)
    with pytest.raises(BankError, match="search again to make them"):
        write_plan(plan, tmp_path / "gone", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_judges_of_tuned_weights_are_in_no_set_and_in_their_name() -> None:
    setup = prepare(StudySpec("4.0", "vqav2"))
    judges = judges_of(setup)
    assert 0 < len(judges) <= 32
    for own in setup.samples.values():
        assert not {s.image for s in judges} & {s.image for s in own}
    assert len(tuning_of(setup).judges) == len(judges)
    full = setup.space.full
    names = {finalized_digest(setup, full, tuned=tuned) for tuned in (False, True)}
    assert len(names) == 2
