from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Selection
from evals.splits import check_disjoint
from evals.tasks.chartqa import PLUGIN
from tests.evals.benchmark_folders import write_chartqa
from tests.evals.data_folders import write

if TYPE_CHECKING:
    from pathlib import Path

SEED_0 = Selection()
PARTS = {"train": range(1, 141), "val": range(201, 211), "test": range(301, 311)}
FOLDER = "ChartQA Dataset"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chartqa")
    write_chartqa(folder / "chartqa", PARTS)
    return folder


def test_a_sample_has_question_chart_and_one_answer(official: Path) -> None:
    for sample in PLUGIN.samples(official, "evaluation", SEED_0):
        number = int(sample.text.removeprefix("What is ").rstrip("?"))
        folder = official / "chartqa" / FOLDER / "test" / "png"
        assert sample.image == folder / f"{number // 10}.png"
        assert sample.references == (f"answer {number}",)
        assert (sample.prompt, sample.upright) == ("vqa", False)


def test_each_split_is_a_part_of_its_own(official: Path) -> None:
    found = {split: PLUGIN.samples(official, split, SEED_0) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [128, 30, 30]
    check_disjoint(**found)


def test_a_half_is_a_subset(official: Path) -> None:
    halves = [
        PLUGIN.samples(official, "evaluation", Selection(subset=half))
        for half in ("human", "augmented")
    ]
    assert [len(half) for half in halves] == [15, 15]
    whole = PLUGIN.samples(official, "evaluation", SEED_0)
    assert {s.id for half in halves for s in half} == {s.id for s in whole}


def test_a_fraction_has_as_much_of_each_half(official: Path) -> None:
    for seed in range(5):
        some = PLUGIN.samples(official, "evaluation", Selection(seed, 0.2))
        halves = [sample.id.split("-")[1] for sample in some]
        assert halves.count("human") == halves.count("augmented") == 3


def test_the_parts_may_lie_in_the_folder_itself(official: Path) -> None:
    inner = official / "chartqa" / FOLDER
    sample = PLUGIN.samples(inner, "search", SEED_0)[0]
    assert sample.image.parent == inner / "val" / "png"


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    write_chartqa(tmp_path, {"test": range(1, 3)})
    name = f"{FOLDER}/test/test_augmented.json"
    contents: tuple[object, ...] = ({}, [], "x")
    for content in contents:
        write(tmp_path / name, content)
        with pytest.raises(DataError, match=f"{name} is not .* a list of questions"):
            PLUGIN.samples(tmp_path, "evaluation", SEED_0)


def test_numbers_may_be_off_by_a_twentieth() -> None:
    sample = replace(PLUGIN.examples[0], references=("100",))
    score = PLUGIN.score(["105", "95", "106", "a hundred"], [sample] * 4)
    assert score.values == (100.0, 100.0, 0.0, 0.0)
    assert score.details == {}


def test_each_half_has_its_own_figure() -> None:
    human = PLUGIN.examples[0]
    samples = [human, human, replace(human, id="val-augmented-1")]
    score = PLUGIN.score(["155", "1", "155"], samples)
    assert score.mean == pytest.approx(200 / 3)
    assert score.details == {"human (%)": 50.0, "augmented (%)": 100.0}
