from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import SPLITS, Selection, Split
from evals.splits import check_disjoint
from evals.tasks.gqa import PLUGIN
from tests.evals.data_folders import PER_IMAGE, read, write, write_gqa

if TYPE_CHECKING:
    from pathlib import Path

SEED_0 = Selection()
PARTS = {
    "train": range(1, 141),
    "val": range(201, 221),
    "testdev": range(301, 311),
}
TESTDEV = "testdev_balanced_questions.json"


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gqa")
    write_gqa(folder, PARTS)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder of its own, to be damaged."""
    write_gqa(tmp_path, {"testdev": range(1, 3)})
    return tmp_path


def test_a_sample_has_question_image_and_one_answer(official: Path) -> None:
    for sample in PLUGIN.samples(official, "evaluation", SEED_0):
        number = int(sample.id)
        assert len(sample.id) == 9
        assert sample.image == official / "images" / f"n{number // 10}.jpg"
        assert (sample.prompt, sample.text) == ("gqa", f"What is {number}?")
        assert sample.references == (f"answer {number}",)


def test_each_split_is_a_file_of_its_own(official: Path) -> None:
    found = {split: PLUGIN.samples(official, split, SEED_0) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [128, 60, 30]
    for samples, images in zip(found.values(), PARTS.values(), strict=True):
        assert {int(sample.id) // 10 for sample in samples} <= set(images)
    assert len({sample.image for sample in found["calibration"]}) == 128
    check_disjoint(**found)


def test_search_takes_1000_of_val(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evals.tasks.gqa.SEARCH_SIZE", 7)
    few = PLUGIN.samples(official, "search", SEED_0)
    monkeypatch.undo()
    assert few == PLUGIN.samples(official, "search", SEED_0)[:7]


def test_a_fraction_is_a_share_of_testdev_alone(official: Path) -> None:
    whole = PLUGIN.samples(official, "evaluation", Selection(0, 1.0))
    assert whole == PLUGIN.samples(official, "evaluation", SEED_0)
    assert PLUGIN.samples(official, "evaluation", Selection(0, 0.2)) == whole[:6]
    assert len(PLUGIN.samples(official, "search", Selection(0, 0.2))) == 60


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_alone_decides_which_samples_are_chosen(
    official: Path, split: Split
) -> None:
    first, again, other = (
        PLUGIN.samples(official, split, Selection(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_questions_of_one_image_do_not_stay_together(official: Path) -> None:
    samples = PLUGIN.samples(official, "search", SEED_0)
    assert len({sample.image for sample in samples[:9]}) > PER_IMAGE


def test_a_folder_of_several_tasks_has_one_for_gqa(
    tmp_path: Path, official: Path
) -> None:
    (tmp_path / "gqa").symlink_to(official)
    samples = PLUGIN.samples(tmp_path, "evaluation", SEED_0)
    assert samples[0].image.parent == tmp_path / "gqa" / "images"


def test_two_questions_of_one_id_are_refused(data: Path) -> None:
    text = (data / TESTDEV).read_text()
    (data / TESTDEV).write_text(text.replace("000000011", "000000010"))
    with pytest.raises(DataError, match=f"{TESTDEV} has two questions of the same id"):
        PLUGIN.samples(data, "evaluation", SEED_0)


@pytest.mark.parametrize("key", ["imageId", "question", "answer"])
def test_a_missing_field_is_named(data: Path, key: str) -> None:
    content = read(data / TESTDEV)
    for damaged in (lambda row: row.pop(key), lambda row: row.update({key: 3})):
        damaged(content["000000011"])
        write(data / TESTDEV, content)
        with pytest.raises(DataError, match=f"{TESTDEV} .* '{key}' of type str is"):
            PLUGIN.samples(data, "evaluation", SEED_0)


def test_a_list_or_no_questions_are_refused(data: Path) -> None:
    write(data / TESTDEV, [])
    with pytest.raises(DataError, match=f"{TESTDEV} is not .* questions by id is miss"):
        PLUGIN.samples(data, "evaluation", SEED_0)
    write(data / TESTDEV, {})
    with pytest.raises(DataError, match=f"{TESTDEV} in .* has no questions for eval"):
        PLUGIN.samples(data, "evaluation", SEED_0)


def test_a_missing_image_is_named(data: Path) -> None:
    (data / "images" / "n2.jpg").unlink()
    with pytest.raises(DataError, match=r"question 00000002\d is missing: .*n2\.jpg"):
        PLUGIN.samples(data, "evaluation", SEED_0)


def test_the_score_is_the_share_of_exact_matches_in_percent() -> None:
    samples = PLUGIN.examples * 4
    score = PLUGIN.score(["no", "No.", "yes", "no way"], samples)
    assert score.values == (100.0, 100.0, 0.0, 0.0)
    assert score.mean == 50.0
    with pytest.raises(ReplyError, match="0 replies for 0 samples"):
        PLUGIN.score([], [])
