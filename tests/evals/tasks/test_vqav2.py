from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import SPLITS, Sample, Selection, Split
from evals.splits import check_disjoint
from evals.tasks.vqav2 import PLUGIN
from tests.evals.data_folders import PER_IMAGE, read, write, write_vqav2

if TYPE_CHECKING:
    from pathlib import Path

TRAIN_IMAGES = range(1, 141)
VAL_IMAGES = range(201, 221)
NULLS = {"image_id": None, "answers": None}
SEED_0 = Selection()
EXAMPLE = PLUGIN.examples[0]


def image_of(sample: Sample) -> int:
    return int(sample.id) // 1000


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vqav2")
    write_vqav2(folder, {"train2014": TRAIN_IMAGES, "val2014": VAL_IMAGES})
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder of its own, to be damaged."""
    write_vqav2(tmp_path, {"train2014": range(1, 3), "val2014": range(11, 15)})
    return tmp_path


def test_a_sample_has_question_image_and_ten_answers(official: Path) -> None:
    for sample in PLUGIN.samples(official, "evaluation", SEED_0):
        file = f"COCO_val2014_{image_of(sample):012d}.jpg"
        assert sample.image == official / "val2014" / file
        assert sample.prompt == "vqa"
        assert sample.text == f"What is {sample.id}?"
        assert sample.references == (*[f"answer {sample.id}"] * 9, "other")


def test_calibration_is_128_train_questions_on_different_images(official: Path) -> None:
    samples = PLUGIN.samples(official, "calibration", SEED_0)
    assert len({sample.image for sample in samples}) == len(samples) == 128
    assert {sample.image.parent.name for sample in samples} == {"train2014"}
    assert len({int(sample.id) % 1000 for sample in samples}) == PER_IMAGE


def test_evaluation_is_a_tenth_of_the_val_questions(official: Path) -> None:
    # 20 images with 3 questions each
    assert len(PLUGIN.samples(official, "evaluation", SEED_0)) == 6


def test_search_is_what_other_images_leave_up_to_1000(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # evaluation takes two images of 20
    assert len(PLUGIN.samples(official, "search", SEED_0)) == 18 * PER_IMAGE
    monkeypatch.setattr("evals.tasks.vqav2.SEARCH_SIZE", 7)
    assert len(PLUGIN.samples(official, "search", SEED_0)) == 7


@pytest.mark.parametrize("seed", range(5))
def test_the_three_splits_share_no_image(official: Path, seed: int) -> None:
    # 8 of 60 questions end in the middle of the third image
    selection = Selection(seed, fraction=8 / 60)
    splits = {name: PLUGIN.samples(official, name, selection) for name in SPLITS}
    assert len(splits["evaluation"]) == 8
    check_disjoint(**splits)


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_alone_decides_which_samples_are_chosen(
    official: Path, split: Split
) -> None:
    first, again, other = (
        PLUGIN.samples(official, split, Selection(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_questions_of_one_image_do_not_stay_together(official: Path) -> None:
    images = [image_of(each) for each in PLUGIN.samples(official, "search", SEED_0)]
    assert len(set(images[:9])) > 3


def test_a_splits_file_is_followed_to_the_letter(data: Path) -> None:
    write(data / "splits.json", {"search": [12001, 11000], "evaluation": [13002]})
    search = PLUGIN.samples(data, "search", SEED_0)
    evaluation = PLUGIN.samples(data, "evaluation", Selection(3))
    assert [sample.id for sample in search] == ["12001", "11000"]
    assert [sample.id for sample in evaluation] == ["13002"]
    assert len(PLUGIN.samples(data, "calibration", SEED_0)) == 2


def test_a_fraction_is_a_share_of_all_questions_and_part_of_any_larger_one(
    official: Path,
) -> None:
    sizes, last = [], set()
    for fraction in (0.001, 0.1, 0.5, 1.0):
        samples = PLUGIN.samples(official, "evaluation", Selection(0, fraction))
        assert last <= {sample.id for sample in samples}
        last = {sample.id for sample in samples}
        sizes.append(len(last))
    # of 60 questions, and never none
    assert sizes == [1, 6, 30, 60]
    published = PLUGIN.samples(official, "evaluation", SEED_0)
    assert published == PLUGIN.samples(official, "evaluation", Selection(0, 0.1))


def test_a_fraction_of_everything_leaves_nothing_to_search_on(official: Path) -> None:
    assert PLUGIN.samples(official, "calibration", Selection(fraction=1.0))
    with pytest.raises(DataError, match=r"too few .* beside a fraction of 1.0 of them"):
        PLUGIN.samples(official, "search", Selection(fraction=1.0))


def test_a_fraction_of_listed_questions_keeps_their_order(data: Path) -> None:
    listed = [12001, 11000, 13002, 12000, 14001, 14000]
    write(data / "splits.json", {"search": [11001], "evaluation": listed})
    halves = set()
    for seed in range(9):
        half = PLUGIN.samples(data, "evaluation", Selection(seed, 0.5))
        numbers = [int(sample.id) for sample in half]
        assert len(numbers) == 3
        assert numbers == [number for number in listed if number in numbers]
        halves.add(tuple(numbers))
        assert len(PLUGIN.samples(data, "search", Selection(seed, 0.5))) == 1
    assert len(halves) > 1
    whole = PLUGIN.samples(data, "evaluation", Selection(0, 1.0))
    assert whole == PLUGIN.samples(data, "evaluation", SEED_0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"search": [1]}, "'evaluation' of type list is missing"),
        ([], "'evaluation' of type list is missing"),
        ({"evaluation": [11000, 99]}, "lists 99 for evaluation"),
        ({"evaluation": [[]]}, r"lists \[\] for evaluation"),
        ({"evaluation": [11000, 11000]}, "twice"),
        ({"evaluation": []}, "too few questions"),
    ],
)
def test_a_wrong_splits_file_is_refused(
    data: Path, content: object, message: str
) -> None:
    write(data / "splits.json", content)
    with pytest.raises(DataError, match=message):
        PLUGIN.samples(data, "evaluation", SEED_0)


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("calibration", "v2_OpenEnded_mscoco_train2014_questions.json"),
        ("calibration", "v2_mscoco_train2014_annotations.json"),
        ("search", "v2_OpenEnded_mscoco_val2014_questions.json"),
        ("evaluation", "v2_mscoco_val2014_annotations.json"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    data: Path, split: Split, name: str
) -> None:
    path = data / name
    whole = read(path)
    key = "questions" if "questions" in name else "annotations"
    damages = {
        "not a JSON file": b"{",
        f"'{key}' of type list": b'{"info": {}}',
        "'question_id' of type int": json.dumps({key: [{}]}).encode(),
        "of type (int|list)": json.dumps({key: [{**whole[key][0], **NULLS}]}).encode(),
    }
    for message, content in damages.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            PLUGIN.samples(data, split, SEED_0)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing: expected .*{data}"):
        PLUGIN.samples(data, split, SEED_0)
    path.mkdir()
    with pytest.raises(DataError, match=f"{name} in .* is unreadable"):
        PLUGIN.samples(data, split, SEED_0)


def test_a_question_without_annotation_is_named(data: Path) -> None:
    write(data / "v2_mscoco_val2014_annotations.json", {"annotations": []})
    with pytest.raises(DataError, match=r"question 1\d00\d has no annotation"):
        PLUGIN.samples(data, "search", SEED_0)


@pytest.mark.parametrize("answers", [[{"answer": "red"}] * 9, [{"text": "red"}] * 10])
def test_a_question_without_ten_answers_is_named(data: Path, answers: object) -> None:
    path = data / "v2_mscoco_train2014_annotations.json"
    content = read(path)
    for entry in content["annotations"]:
        entry["answers"] = answers
    write(path, content)
    with pytest.raises(DataError, match=r"question \d+ has [09] answers .* not 10"):
        PLUGIN.samples(data, "calibration", SEED_0)


def test_a_missing_image_is_refused_only_if_it_is_chosen(data: Path) -> None:
    write(data / "splits.json", {"search": [12001], "evaluation": [13002]})
    missing = data / "val2014" / "COCO_val2014_000000000013.jpg"
    missing.unlink()
    assert len(PLUGIN.samples(data, "search", SEED_0)) == 1
    with pytest.raises(DataError, match=f"question 13002 is missing: .*{missing.name}"):
        PLUGIN.samples(data, "evaluation", SEED_0)


def test_one_image_cannot_be_divided(tmp_path: Path) -> None:
    write_vqav2(tmp_path, {"val2014": range(1, 2)})
    assert len(PLUGIN.samples(tmp_path, "evaluation", SEED_0)) == 1
    with pytest.raises(DataError, match="too few questions"):
        PLUGIN.samples(tmp_path, "search", SEED_0)


def test_a_splits_file_whose_link_leads_nowhere_is_not_passed_over(data: Path) -> None:
    (data / "splits.json").symlink_to("gone")
    with pytest.raises(DataError, match=r"splits\.json is missing"):
        PLUGIN.samples(data, "evaluation", SEED_0)


def test_the_score_is_the_mean_accuracy_in_percent() -> None:
    # six of ten say "red", three "red and white", one "white"
    replies = ["Red.", "red and white", "white", "blue"]
    score = PLUGIN.score(replies, [EXAMPLE] * 4)
    assert score.values == (100.0, 90.0, 30.0, 0.0)
    assert score.mean == 55.0


def test_a_score_of_nothing_is_refused() -> None:
    with pytest.raises(ReplyError, match="0 replies for 0 samples"):
        PLUGIN.score([], [])


def test_two_thousand_replies_are_scored_in_well_under_half_a_second() -> None:
    samples = [
        replace(
            EXAMPLE,
            id=str(number),
            references=tuple(f"it's {number}, {i}-fold." for i in range(10)),
        )
        for number in range(2000)
    ]
    start = time.process_time()
    PLUGIN.score(["it's 3, 4-fold"] * 2000, samples)
    assert time.process_time() - start < 0.5
