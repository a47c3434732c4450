from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Selection
from evals.splits import check_disjoint
from evals.tasks.docvqa import PLUGIN
from tests.evals.benchmark_folders import write_docvqa, write_docvqa_first
from tests.evals.data_folders import read, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED_0 = Selection()
VAL = "spdocvqa_qas/val_v1.0_withQT.json"
PARTS = {"train": range(1, 6), "val": range(11, 13)}


@pytest.mark.parametrize(
    ("write_it", "pictures"),
    [(write_docvqa, "spdocvqa_images"), (write_docvqa_first, "val/documents")],
)
def test_a_sample_has_question_page_and_answers(
    write_it: Callable[..., None], pictures: str, tmp_path: Path
) -> None:
    write_it(tmp_path / "docvqa", PARTS)
    samples = PLUGIN.samples(tmp_path, "evaluation", SEED_0)
    assert len(samples) == 6
    for sample in samples:
        number = int(sample.text.removeprefix("What is ").rstrip("?"))
        page = f"page{number // 10:04d}_1.png"
        assert sample.image == tmp_path / "docvqa" / pictures / page
        assert sample.references == (f"answer {number}", f"answer {number}.")
        assert (sample.prompt, sample.upright) == ("vqa", False)


@pytest.mark.parametrize("pictures", ["documents", "spdocvqa_images"])
def test_files_and_pages_may_lie_in_the_folder_itself(
    pictures: str, tmp_path: Path
) -> None:
    write_docvqa(tmp_path, PARTS)
    for part in PARTS:
        name = f"{part}_v1.0_withQT.json"
        (tmp_path / "spdocvqa_qas" / name).rename(tmp_path / name)
    (tmp_path / "spdocvqa_images").rename(tmp_path / pictures)
    sample = PLUGIN.samples(tmp_path, "calibration", SEED_0)[0]
    assert sample.image.parent == tmp_path / pictures


def test_calibration_and_search_share_train_and_no_page(tmp_path: Path) -> None:
    write_docvqa(tmp_path, PARTS)
    found = {split: PLUGIN.samples(tmp_path, split, SEED_0) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [2, 9, 6]
    check_disjoint(**found)


def test_a_question_without_answers_is_refused(tmp_path: Path) -> None:
    write_docvqa(tmp_path, PARTS)
    content = read(tmp_path / VAL)
    for answers in ([], [3], ["a", None]):
        content["data"][1]["answers"] = answers
        write(tmp_path / VAL, content)
        with pytest.raises(DataError, match=f"question 300001 has no answers .* {VAL}"):
            PLUGIN.samples(tmp_path, "evaluation", SEED_0)


def test_the_score_is_the_similarity_with_the_best_answer_from_a_half_on() -> None:
    samples = PLUGIN.examples * 3
    # one of six letters is another; more than half of them are
    score = PLUGIN.score(["1/8/93", "1/8/98", "2/9/75"], samples)
    assert score.values == pytest.approx((100.0, 100 * 5 / 6, 0.0))
