from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.errors import SpecError
from allocator.core.plugins import load
from allocator.core.ports import Sample
from allocator.kept import Kept
from allocator.probes import damages
from allocator.trial import Workbench, pick_device
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
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
        self.model, self.module, self.vision_runs = model, model.module, 0
        self.state = state

    def stages(self) -> Any:
        return self.model.stages()

    def inputs(self, samples: Any, *, answered: bool = False) -> State:
        del samples, answered
        return dict(self.state)

    def features(self, state: State) -> Any:
        self.vision_runs += 1
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


def test_features_are_reused_while_vision_and_connector_stay(bench: Workbench) -> None:
    full = Allocation.uniform(bench.spec, Choice(16))
    language = next(k for k in bench.spec.keys if k.startswith("language"))
    vision = next(k for k in bench.spec.keys if k.startswith("vision"))
    bench.score(full, SAMPLES)
    bench.score(full.replace({language: Choice(2, "uniform")}), SAMPLES)
    assert bench.model.vision_runs == 1
    bench.score(full.replace({vision: Choice(2, "uniform")}), SAMPLES)
    assert bench.model.vision_runs == 2


def test_reused_features_give_the_same_replies_as_fresh_ones(bench: Workbench) -> None:
    full = Allocation.uniform(bench.spec, Choice(16))
    language = next(k for k in bench.spec.keys if k.startswith("language"))
    low = full.replace({language: Choice(2, "uniform")})
    bench.score(full, SAMPLES)
    reused = bench.logits(low, SAMPLES)
    bench.features = Kept(0)
    assert torch.equal(bench.logits(low, SAMPLES), reused)


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
    kept = Kept(10)
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
