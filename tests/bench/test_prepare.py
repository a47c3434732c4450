from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.bench.prepare import (
    Setup,
    model_for,
    prepare,
    read_samples,
    task_of,
    weights_digest,
)
from allocator.core.errors import SpecError
from allocator.core.study import StudySpec
from allocator.embedded import HERE
from tests.worlds import homes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Setup:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        return prepare(StudySpec("4.0", "vqav2", model="tiny-llava"))


@pytest.mark.parametrize(
    "free",
    [{"budget": "3.5"}, {"trials": 7}, {"seconds": 9.0}, {"strategy": "random"}],
)
def test_a_study_goes_on_under_another_budget_or_effort(
    setup: Setup, free: dict[str, object]
) -> None:
    assert replace(setup, asked=replace(setup.asked, **free)).study == setup.study


@pytest.mark.parametrize(
    "bound",
    [
        {"methods": ("uniform",)},
        {"widths": (2, 4, 16)},
        {"group_size": 64},
        {"symmetric": True},
        {"granularity": "block"},
        {"include": ("head",)},
        {"beams": 3},
        {"rerank": 8},
        {"seed": 1},
    ],
)
def test_what_changes_a_measurement_makes_another_study(
    setup: Setup, bound: dict[str, object]
) -> None:
    assert replace(setup, asked=replace(setup.asked, **bound)).study != setup.study


def test_other_weights_or_other_answers_make_another_study(setup: Setup) -> None:
    assert replace(setup, weights="other").study != setup.study
    first = setup.samples["search"][0]
    changed = (replace(first, references=("x",) * 10), *setup.samples["search"][1:])
    samples = {**setup.samples, "search": changed}
    assert replace(setup, samples=samples).study != setup.study


def test_other_prompts_make_another_study(tmp_path: Path) -> None:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    before = weights_digest(tmp_path / "model")
    (tmp_path / "model" / "prompts.json").write_text('{"vqa": "{}"}')
    assert weights_digest(tmp_path / "model") != before


def test_a_study_is_named_by_letters_digits_and_dashes(setup: Setup) -> None:
    asked = replace(setup.asked, model="./models/my model (1)")
    assert replace(setup, asked=asked).study.startswith("my-model-1-vqav2-")


def test_the_samples_are_as_many_as_the_world_draws(setup: Setup) -> None:
    sizes = {split: len(samples) for split, samples in setup.samples.items()}
    assert sizes == {"calibration": 128, "search": 1000, "evaluation": 2000}


def test_a_task_that_ranks_is_asked_of_the_retrieval_twin(tmp_path: Path) -> None:
    task = task_of("flickr30k")
    folder, family = model_for(task, HERE / "tiny-blip2", "tiny-blip2")
    assert folder == HERE / "tiny-blip2" / "retrieval"
    assert family.gives(folder) == "ranking"
    # one that replies, of the model itself; and a retrieval model is its own twin
    assert model_for(task_of("coco"), HERE / "tiny-blip2", "m")[0].name == "tiny-blip2"
    shutil.copytree(folder, tmp_path / "alone")
    assert model_for(task, tmp_path / "alone", "m")[0] == tmp_path / "alone"
    with pytest.raises(SpecError, match=r"coco needs a reply .* m gives a ranking"):
        model_for(task_of("coco"), tmp_path / "alone", "m")


def test_the_embedded_twin_ranks_fewer_again_unless_asked(setup: Setup) -> None:
    assert setup.rerank == 16
    assert replace(setup, asked=replace(setup.asked, rerank=5)).rerank == 5
    own = replace(setup.asked, model="./models/mine")
    assert replace(setup, asked=own).rerank == 128


def test_calibration_of_several_tasks_is_as_much_as_of_one(
    tmp_path: Path, drawn_world: Path
) -> None:
    with homes(tmp_path, drawn_world):
        asked = StudySpec("4.0", "vqav2+coco+gqa", model="tiny-llava", calibration=60)
        samples = read_samples(asked, task_of(asked.task))
    counts = Counter(sample.id.split(":")[0] for sample in samples["calibration"])
    assert counts == {"vqav2": 20, "coco": 20, "gqa": 20}
