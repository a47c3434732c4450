from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.devices import pick_device
from allocator.bench.probes import damages
from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.errors import SpecError
from allocator.core.plugins import load
from allocator.core.ports import Sample, Score
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
from quant.lru_cache import LRUCache
from tests.states import bank_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import State

FAMILY = load("allocator.families", "llava")
SAMPLES = tuple(
    Sample(str(i), VQAV2.examples[0].image, "vqa", "", ("x",) * 10) for i in (1, 2)
)


class Fed:
    """A loaded model that reads fixed inputs and replies with its best next token."""

    prefix = ("vision", "connector")

    def __init__(self, model: Any, state: State) -> None:
        self.model, self.module = model, model.module
        self.state = state

    def stages(self) -> Any:
        return self.model.stages()

    def inputs(self, samples: Any, *, answered: bool = False) -> State:
        del samples, answered
        return dict(self.state)

    def lengths(self, samples: Any) -> list[int]:
        return [self.state["input_ids"].shape[1]] * len(samples)

    def features(self, state: State) -> Any:
        return state["features"]

    def predict(self, states: Any, samples: Any, decoding: Any, tick: Any) -> Any:
        del samples, decoding
        replies: list[str] = []
        for state in states:
            done = state
            for stage in self.stages():
                if stage.component == "language":
                    done = stage.run(done)
            replies += [str(int(row.argmax())) for row in done["logits"][:, -1]]
            tick(len(replies))
        return replies


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    state = made(FAMILY, tmp_path / "model")
    model = FAMILY.load(tmp_path / "model", "cpu")
    spec = FAMILY.spec(tmp_path / "model")
    methods = {"uniform": load("quant.methods", "uniform")}
    recipe = Recipe("weights", ("a",), Scheme(), methods, (2, 4, 16))
    bank = bank_of(tmp_path / "bank", recipe, model, spec, state)
    return Workbench(Fed(model, state), spec, VQAV2, bank)


def test_reused_features_give_the_same_replies_as_fresh_ones(bench: Workbench) -> None:
    full = Allocation.uniform(bench.spec, Choice(16))
    language = next(k for k in bench.spec.keys if k.startswith("language"))
    low = full.replace({language: Choice(2, "uniform")})
    bench.score(full, SAMPLES)
    reused = bench.logits(low, SAMPLES)
    bench.features = LRUCache(0)
    assert torch.equal(bench.logits(low, SAMPLES), reused)


def keys_of(bench: Workbench, component: str) -> list[str]:
    return [key for key in bench.spec.keys if key.split(".")[0] == component]


def mixtures(bench: Workbench) -> list[Allocation]:
    """Full precision; then language, connector, vision changed, and changed back."""
    full, low = Allocation.uniform(bench.spec, Choice(16)), Choice(2, "uniform")
    vision, connector, language = (
        dict.fromkeys(keys_of(bench, name)[:2], low)
        for name in ("vision", "connector", "language")
    )
    return [
        full,
        full.replace(language),
        full.replace(connector),
        full.replace({**connector, **language}),
        full.replace(vision),
        full.replace({**vision, **connector}),
        full.replace({**vision, **connector, **language}),
        full.replace(language),
        full,
    ]


class Cut:
    """A task whose score tells every reply apart."""

    name, version, metric, needs, max_new_tokens = "cut", "1", "number", "reply", 1

    def score(self, predictions: Any, samples: Any) -> Score:
        del samples
        values = tuple(float(each) for each in predictions)
        return Score(sum(values) / len(values), values)


@pytest.mark.parametrize("limit", [2**28, 2**14, 1])
def test_what_is_kept_changes_no_score_and_no_divergence(
    bench: Workbench, limit: int
) -> None:
    def all_of() -> list[tuple[Any, float]]:
        return [
            (bench.score(each, SAMPLES).values, bench.divergence(each, SAMPLES))
            for each in mixtures(bench)
        ]

    bench.task = Cut()  # type: ignore[assignment]
    bench.features = LRUCache(0)
    fresh = all_of()
    assert bench.cost.reused == 0
    bench.features = LRUCache(limit)
    assert all_of() == fresh
    assert fresh[0] == fresh[-1]
    assert fresh[1] == fresh[-2]
    # each component that changes makes a difference
    assert len({divergence for _, divergence in fresh}) == 7


def counted(bench: Workbench, allocation: Allocation) -> tuple[int, int]:
    """Samples times blocks that a score takes, and those that were kept."""
    ran, reused = bench.cost.ran, bench.cost.reused
    bench.score(allocation, SAMPLES)
    return bench.cost.ran - ran, bench.cost.reused - reused


def test_each_component_of_the_prefix_runs_once_for_what_it_depends_on(
    bench: Workbench,
) -> None:
    # two samples through two blocks of vision and through the connector
    assert [counted(bench, each) for each in mixtures(bench)] == [
        (6, 0),
        # another language model: both are kept
        (0, 6),
        # another connector: vision is kept
        (2, 4),
        (0, 6),
        # another vision: nothing is
        (6, 0),
        (2, 4),
        (0, 6),
        (0, 6),
        (0, 6),
    ]


def test_vision_is_not_run_again_where_the_connector_alone_changes(
    bench: Workbench,
) -> None:
    full, _, other, *_ = mixtures(bench)
    bench.score(full, SAMPLES)
    ran: list[str] = []
    noted = tuple(
        replace(stage, run=lambda state, at=stage: ran.append(at.name) or at.run(state))
        for stage in bench.cuts.stages
    )
    bench.__dict__["cuts"] = replace(bench.cuts, stages=noted)
    bench.score(other, SAMPLES)
    assert ran == ["connector"]


def test_without_room_everything_runs_each_time(bench: Workbench) -> None:
    bench.features = LRUCache(0)
    assert [counted(bench, each) for each in mixtures(bench)] == [(6, 0)] * 9


def test_a_look_and_a_score_share_what_was_made_of_the_same_images(
    bench: Workbench,
) -> None:
    full, low, *_ = mixtures(bench)
    bench.score(full, SAMPLES)
    assert bench.cost.ran == 6
    bench.divergence(low, SAMPLES)
    # twice through two blocks of language, in front of which all is kept
    assert (bench.cost.ran, bench.cost.reused) == (6 + 2 * 4, 2 * 6)


def test_other_weights_share_nothing_and_are_counted(bench: Workbench) -> None:
    full, *_ = mixtures(bench)
    vision = mixtures(bench)[4]
    before = bench.score(vision, SAMPLES).values
    ran = bench.cost.ran
    with bench.under(bench.bank) as other:  # type: ignore[arg-type]
        assert other.score(vision, SAMPLES).values == before
        assert other.cost.ran == ran + 6
    assert (bench.cost.ran, bench.cost.reused) == (ran + 6, 0)
    assert set(bench.in_place.current.values()) == {Choice(16)}
    assert counted(bench, vision) == (0, 6)
    assert counted(bench, full) == (6, 0)


def test_full_precision_diverges_from_itself_by_nothing(bench: Workbench) -> None:
    full, low, *_ = mixtures(bench)
    assert bench.divergence(full, SAMPLES) == 0
    found = bench.divergence(low, SAMPLES)
    assert 0 < found <= 1
    # the mean over samples of the root of half their KL, each at most 1
    logits, other = bench.logits(full, SAMPLES), bench.logits(low, SAMPLES)
    gaps = (logits.exp() * (logits - other)).sum(-1)
    assert found == pytest.approx(float((gaps / 2).sqrt().clamp(max=1).mean()))


def test_damage_is_zero_at_full_precision_and_positive_at_two_bits(
    bench: Workbench,
) -> None:
    choices = (Choice(2, "uniform"), Choice(16))
    table = damages(bench, SAMPLES, choices)
    assert set(table) == {
        (key, choice) for key in bench.spec.keys for choice in choices
    }
    assert all(table[key, Choice(16)] == 0 for key in bench.spec.keys)
    assert all(table[key, Choice(2, "uniform")] > 0 for key in bench.spec.keys)


def test_what_is_kept_stays_within_its_limit() -> None:
    kept = LRUCache(10)
    for name in "abc":
        kept.put(name, 4, name)
    # 4 + 4 + 4 is over 10: the longest unused went
    assert kept.get("a") is None
    assert kept.get("b") == "b"
    kept.put("huge", 11, "huge")
    assert kept.get("huge") is None


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "meta"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=name):
        pick_device(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_picked_by_itself() -> None:
    assert pick_device("auto") == "cuda"


def test_a_sound_model_has_no_fault_and_looking_for_one_counts_nothing(
    bench: Workbench,
) -> None:
    full = Allocation.uniform(bench.spec, Choice(16))
    before = bench.score(full, SAMPLES).values, bench.cost.ran, bench.cost.reused
    assert bench.fault(SAMPLES) is None
    bench.cost.ran = bench.cost.reused = 0
    assert before[0] == bench.score(full, SAMPLES).values
    assert bench.cost.ran == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(bench: Workbench, value: float) -> None:
    name = bench.spec.groups[-1].linears[0].name
    with torch.no_grad():
        bench.model.module.get_submodule(name).weight[0, 0] = value
    assert f"its weight {name}.weight holds" in str(bench.fault(SAMPLES))


def test_logits_that_are_no_numbers_are_found_where_all_weights_are_finite(
    bench: Workbench,
) -> None:
    norm = bench.model.module.get_submodule(bench.spec.groups[-1].linears[0].name)
    with torch.no_grad():
        for weight in bench.model.module.parameters():
            weight.fill_(torch.finfo(weight.dtype).max)
    assert torch.isfinite(norm.weight).all()
    assert "its logits are no numbers for 2 of 2 samples" in str(bench.fault(SAMPLES))


def test_what_was_said_is_known_behind_a_score(bench: Workbench) -> None:
    bench.score(Allocation.uniform(bench.spec, Choice(16)), SAMPLES)
    said = bench.said["vqav2"]
    assert (said.count, said.empty, said.cut, said.wanted) == (2, 0, 0, "x")
    assert said.example.isdigit()
