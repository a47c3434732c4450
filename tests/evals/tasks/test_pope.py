from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Selection
from evals.splits import check_disjoint
from evals.tasks.pope import KINDS, PLUGIN, says_yes
from tests.evals.benchmark_folders import read_lines, write_lines, write_pope

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample

SEED_0 = Selection()
RANDOM = "coco_pope_random.json"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pope")
    write_pope(folder, dict.fromkeys(KINDS, range(1, 41)))
    return folder


def labelled(*labels: str) -> list[Sample]:
    return [
        replace(PLUGIN.examples[0], id=str(number), references=(label,))
        for number, label in enumerate(labels)
    ]


def test_a_sample_has_question_photograph_and_label(official: Path) -> None:
    for sample in PLUGIN.samples(official, "evaluation", Selection(subset="popular")):
        kind, number = sample.id.split("-")
        assert kind == "popular"
        image = (int(number) + 1) // 2
        name = f"COCO_val2014_{image:012d}.jpg"
        assert sample.image == official / "val2014" / name
        assert (sample.prompt, sample.upright) == ("vqa", False)
        assert sample.references == (("no", "yes")[int(number) % 2],)


def test_half_of_the_photographs_are_set_aside(official: Path) -> None:
    found = {split: PLUGIN.samples(official, split, SEED_0) for split in SPLITS}
    images = {split: {s.image for s in each} for split, each in found.items()}
    # 40 photographs with two questions in each of three files
    assert [len(images[split]) for split in SPLITS] == [8, 12, 20]
    assert [len(found[split]) for split in SPLITS] == [8, 12 * 6, 20 * 6]
    check_disjoint(**found)
    remarks = getattr(PLUGIN, "remarks", ())
    assert any("half of its photographs" in each for each in remarks)


def test_all_kinds_ask_about_the_same_photographs_in_each_split(official: Path) -> None:
    for split in ("search", "evaluation"):
        whole = {s.image for s in PLUGIN.samples(official, split, SEED_0)}
        for kind in KINDS:
            samples = PLUGIN.samples(official, split, Selection(subset=kind))
            assert {sample.image for sample in samples} == whole


def test_all_are_scored_on_where_that_is_asked_for(official: Path) -> None:
    whole = Selection(0, 1.0)
    assert len(PLUGIN.samples(official, "evaluation", whole)) == 240
    for split in ("calibration", "search"):
        with pytest.raises(DataError, match=f"too few images for {split}"):
            PLUGIN.samples(official, split, whole)


def test_photographs_are_shared_with_other_tasks(
    official: Path, tmp_path: Path
) -> None:
    (tmp_path / "pope").mkdir()
    for kind in KINDS:
        name = f"coco_pope_{kind}.json"
        (tmp_path / "pope" / name).symlink_to(official / name)
    (tmp_path / "val2014").symlink_to(official / "val2014")
    sample = PLUGIN.samples(tmp_path, "evaluation", SEED_0)[0]
    assert sample.image.parent == tmp_path / "val2014"


def test_a_file_that_is_cut_off_between_lines_is_refused(tmp_path: Path) -> None:
    write_pope(tmp_path, {"random": range(1, 5)})
    write_lines(tmp_path / RANDOM, read_lines(tmp_path / RANDOM)[:5])
    with pytest.raises(DataError, match=f"{RANDOM} .* with yes as with no on image"):
        PLUGIN.samples(tmp_path, "evaluation", Selection(subset="random"))


def test_two_questions_of_one_number_or_another_label_are_refused(
    tmp_path: Path,
) -> None:
    write_pope(tmp_path, {"random": range(1, 5)})
    whole = read_lines(tmp_path / RANDOM)
    for change, said in (
        ({"question_id": 1}, "two questions 1$"),
        ({"label": "maybe"}, "the label 'maybe', not yes or no"),
    ):
        write_lines(tmp_path / RANDOM, [whole[0], {**whole[1], **change}, *whole[2:]])
        with pytest.raises(DataError, match=said):
            PLUGIN.samples(tmp_path, "evaluation", Selection(subset="random"))


@pytest.mark.parametrize(
    ("reply", "yes"),
    [
        ("yes", True),
        ("No", False),
        (" no\n", False),
        ("No, there is no dog. Yes", False),
        ("There is not a dog", False),
        ("Yes. No", True),
        ("There isn't", True),
        ("NO", True),
        ("", True),
        ("nothing at all", True),
    ],
)
def test_a_reply_is_a_yes_unless_it_says_no(reply: str, yes: bool) -> None:
    assert says_yes(reply) is yes


def test_the_score_is_accuracy_with_what_is_published_beside_it() -> None:
    # two right yes, one wrong yes, one missed, one right no
    samples = labelled("yes", "yes", "no", "yes", "no")
    score = PLUGIN.score(["yes", "Yes", "yes", "no", "no"], samples)
    assert score.values == (100.0, 100.0, 0.0, 0.0, 100.0)
    assert score.mean == 60.0
    assert score.details == pytest.approx(
        {
            "F1 (%)": 200 / 3,
            "precision (%)": 200 / 3,
            "recall (%)": 200 / 3,
            "yes (%)": 60.0,
        }
    )


def test_a_model_that_never_says_yes_has_no_precision() -> None:
    score = PLUGIN.score(["no", "no"], labelled("yes", "no"))
    assert score.mean == 50.0
    assert set(score.details.values()) == {0.0}
