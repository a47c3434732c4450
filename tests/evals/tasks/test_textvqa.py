from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Selection, Split
from evals.splits import check_disjoint
from evals.tasks.textvqa import PLUGIN
from tests.evals.benchmark_folders import write_textvqa
from tests.evals.data_folders import read, write

if TYPE_CHECKING:
    from pathlib import Path

SEED_0 = Selection()
VAL = "TextVQA_0.5.1_val.json"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("textvqa")
    write_textvqa(folder, {"train": range(1, 341), "val": range(401, 411)})
    return folder


def test_a_sample_has_question_photograph_and_ten_answers(official: Path) -> None:
    sample = PLUGIN.samples(official, "evaluation", SEED_0)[0]
    number = int(sample.text.removeprefix("What is ").rstrip("?"))
    assert sample.image == official / "train_images" / f"{number // 10:016x}.jpg"
    assert sample.prompt == "vqa"
    assert sample.references == (*[f"answer {number}"] * 9, "unanswerable")
    assert not sample.upright


def test_calibration_and_search_share_train_and_no_photograph(official: Path) -> None:
    found = {split: PLUGIN.samples(official, split, SEED_0) for split in SPLITS}
    # 340 photographs of train with three questions each: 128, and all others
    assert [len(found[split]) for split in SPLITS] == [128, 3 * (340 - 128), 30]
    assert len({sample.image for sample in found["calibration"]}) == 128
    check_disjoint(**found)


def test_few_photographs_of_train_are_for_both(tmp_path: Path) -> None:
    write_textvqa(tmp_path, {"train": range(1, 6)})
    found = [len(PLUGIN.samples(tmp_path, s, SEED_0)) for s in SPLITS[:2]]
    assert found == [2, 9]


def test_one_photograph_of_train_is_too_few(tmp_path: Path) -> None:
    write_textvqa(tmp_path, {"train": range(1, 2)})
    with pytest.raises(DataError, match="questions on too few images for calibration"):
        PLUGIN.samples(tmp_path, "calibration", SEED_0)


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_alone_decides_which_samples_are_chosen(
    official: Path, split: Split
) -> None:
    first, again, other = (
        PLUGIN.samples(official, split, Selection(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_what_is_chosen_does_not_hang_on_where_the_folder_is(
    official: Path, tmp_path: Path
) -> None:
    (tmp_path / "textvqa").symlink_to(official)
    for split in SPLITS:
        here = PLUGIN.samples(official, split, SEED_0)
        there = PLUGIN.samples(tmp_path, split, SEED_0)
        assert [sample.id for sample in here] == [sample.id for sample in there]


def test_a_fraction_is_a_share_of_val(official: Path) -> None:
    whole = PLUGIN.samples(official, "evaluation", SEED_0)
    assert PLUGIN.samples(official, "evaluation", Selection(0, 0.2)) == whole[:6]


def test_photographs_may_lie_in_the_folder_of_several_tasks(tmp_path: Path) -> None:
    write_textvqa(tmp_path / "textvqa", {"val": range(1, 2)})
    (tmp_path / "textvqa" / "train_images").rename(tmp_path / "train_images")
    sample = PLUGIN.samples(tmp_path, "evaluation", SEED_0)[0]
    assert sample.image.parent == tmp_path / "train_images"


def test_nine_answers_or_other_things_than_texts_are_refused(tmp_path: Path) -> None:
    write_textvqa(tmp_path, {"val": range(1, 2)})
    content = read(tmp_path / VAL)
    for answers in (["a"] * 9, ["a"] * 9 + [3], []):
        content["data"][1]["answers"] = answers
        write(tmp_path / VAL, content)
        with pytest.raises(DataError, match=f"question 300001 has . answers in {VAL}"):
            PLUGIN.samples(tmp_path, "evaluation", SEED_0)


def test_answers_of_people_are_normalized_as_replies_are() -> None:
    # unlike in VQAv2, where "the dakota" of people is never right
    sample = PLUGIN.examples[0]
    score = PLUGIN.score(["The Dakota.", "dakota digital", "canon"], [sample] * 3)
    assert score.values == (100.0, 60.0, 0.0)
    assert score.mean == pytest.approx(160 / 3)
