from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from evals.text import normalize_answer
from evals.world import files
from evals.world.files import MARK, ensure_world, write_world
from evals.world.language import GQA, NAMES, ask, human_answers
from evals.world.scene import COLOURS, SHAPES, SIDE, SIZES, draw_scene

if TYPE_CHECKING:
    from pathlib import Path

VQA_QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
VQA_ANNOTATIONS = "v2_mscoco_{}_annotations.json"
EACH_SUBSET = pytest.mark.parametrize("subset", ["train2014", "val2014"])


@pytest.fixture
def world(drawn_world: Path) -> Path:
    return drawn_world


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of three pictures a part, drawn in no time."""
    for name in ("COCO", "GQA_PARTS", "FLICKR"):
        parts = getattr(files, name)
        monkeypatch.setattr(files, name, tuple(replace(p, images=3) for p in parts))


def read(world: Path, name: str) -> Any:
    return json.loads((world / name).read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.usefixtures("few")
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    write_world(tmp_path / "one")
    write_world(tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    # 3 pictures in each of 9 parts; files: VQA 4, captions 2, GQA 3, Flickr 1, splits 2
    assert len(one) == 27 + 12
    assert one == two


def test_the_pictures_are_small_and_of_the_number_that_is_written(world: Path) -> None:
    found = Counter(file.parent.name for file in world.rglob("*.jpg"))
    assert found == {
        "train2014": 160,
        "val2014": 500 + 1_000,
        "images": 160 + 500 + 1_000,
        "flickr30k-images": 160 + 200 + 500,
    }
    with Image.open(world / "val2014" / "COCO_val2014_000000100001.jpg") as picture:
        assert (picture.size, picture.mode) == ((SIDE, SIDE), "RGB")


def test_no_two_pictures_have_the_same_bytes(world: Path) -> None:
    hashes = Counter(
        hashlib.sha256(file.read_bytes()).digest() for file in world.rglob("*.jpg")
    )
    assert max(hashes.values()) == 1


def test_search_and_evaluation_share_no_question_and_no_picture(world: Path) -> None:
    splits = read(world, MARK)
    asked = {
        row["question_id"]: row["image_id"]
        for row in read(world, VQA_QUESTIONS.format("val2014"))["questions"]
    }
    # two questions on each picture
    assert (len(splits["search"]), len(splits["evaluation"])) == (1_000, 2_000)
    assert set(splits["search"] + splits["evaluation"]) == set(asked)
    search = {asked[number] for number in splits["search"]}
    evaluation = {asked[number] for number in splits["evaluation"]}
    assert not search & evaluation
    coco = read(world, "coco_splits.json")
    assert (set(coco["search"]), set(coco["evaluation"])) == (search, evaluation)


@EACH_SUBSET
def test_vqa_files_have_the_official_keys(world: Path, subset: str) -> None:
    questions = read(world, VQA_QUESTIONS.format(subset))
    annotations = read(world, VQA_ANNOTATIONS.format(subset))
    # https://visualqa.org/vqa_v2_format.html; the official reader copies all of them
    head = {"info", "license", "data_type", "data_subtype"}
    assert questions.keys() == head | {"task_type", "questions"}
    assert annotations.keys() == head | {"annotations"}
    assert (questions["data_type"], questions["data_subtype"]) == ("mscoco", subset)
    for row in questions["questions"]:
        assert row.keys() == {"image_id", "question_id", "question"}
    for row in annotations["annotations"]:
        assert row.keys() == {
            *("image_id", "question_id", "question_type", "answer_type"),
            *("multiple_choice_answer", "answers"),
        }
        for answer in row["answers"]:
            assert answer.keys() == {"answer", "answer_confidence", "answer_id"}


@EACH_SUBSET
def test_every_question_has_ten_answers_and_a_picture(world: Path, subset: str) -> None:
    questions = read(world, VQA_QUESTIONS.format(subset))["questions"]
    annotations = read(world, VQA_ANNOTATIONS.format(subset))["annotations"]
    numbers = [row["question_id"] for row in questions]
    assert len(set(numbers)) == len(numbers)
    assert [row["question_id"] for row in annotations] == numbers
    for row in annotations:
        assert [answer["answer_id"] for answer in row["answers"]] == list(range(1, 11))
        name = f"COCO_{subset}_{row['image_id']:012d}.jpg"
        assert (world / subset / name).is_file()


@EACH_SUBSET
def test_at_least_seven_of_ten_give_the_right_answer(world: Path, subset: str) -> None:
    counts: Counter[int] = Counter()
    for row in read(world, VQA_ANNOTATIONS.format(subset))["annotations"]:
        words = [answer["answer"] for answer in row["answers"]]
        assert all(words)
        counts[words.count(row["multiple_choice_answer"])] += 1
    # none, one, two or three are wrong; each happens
    assert set(counts) == {7, 8, 9, 10}


def test_the_published_normalization_leaves_the_right_answers_alone(
    world: Path,
) -> None:
    rows = read(world, VQA_ANNOTATIONS.format("val2014"))["annotations"]
    right = {row["multiple_choice_answer"] for row in rows}
    assert {"yes", "no", "3", "red", "star", "top left"} <= right
    changed = {answer for answer in right | {*NAMES.values()} if _changed(answer)}
    assert changed == set()


def _changed(answer: str) -> bool:
    return normalize_answer(answer) != answer


@EACH_SUBSET
def test_captions_have_the_official_keys_and_five_for_each_picture(
    world: Path, subset: str
) -> None:
    found = read(world, f"annotations/captions_{subset}.json")
    for row in found["images"]:
        assert row.keys() >= {"id", "file_name", "width", "height"}
        assert (world / subset / row["file_name"]).is_file()
    for row in found["annotations"]:
        assert row.keys() == {"image_id", "id", "caption"}
        assert row["caption"].strip()
    told = Counter(row["image_id"] for row in found["annotations"])
    assert told == {row["id"]: 5 for row in found["images"]}
    ids = [row["id"] for row in found["annotations"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("part", "size"), [("train", 160), ("val", 1_000), ("testdev", 2_000)]
)
def test_gqa_files_have_the_official_keys(world: Path, part: str, size: int) -> None:
    found = read(world, f"gqa/{part}_balanced_questions.json")
    assert len(found) == size
    for row in found.values():
        assert row.keys() >= {
            *("imageId", "question", "answer", "fullAnswer", "types", "isBalanced"),
        }
        assert row["answer"].strip()
        assert row["answer"] in row["fullAnswer"]
        assert (world / "gqa" / "images" / f"{row['imageId']}.jpg").is_file()


def test_flickr_has_the_keys_of_its_published_split(world: Path) -> None:
    found = read(world, "flickr30k/dataset_flickr30k.json")
    assert found.keys() == {"images", "dataset"}
    sizes = Counter(row["split"] for row in found["images"])
    assert sizes == {"train": 160, "val": 200, "test": 500}
    for row in found["images"]:
        assert row.keys() == {"filename", "split", "imgid", "sentids", "sentences"}
        file = world / "flickr30k" / "flickr30k-images" / row["filename"]
        assert file.is_file()
        for number, told in zip(row["sentids"], row["sentences"], strict=True):
            assert told.keys() == {"raw", "tokens", "imgid", "sentid"}
            assert (told["imgid"], told["sentid"]) == (row["imgid"], number)
            assert "," not in "".join(told["tokens"])


def test_every_kind_of_thing_has_a_name_of_its_own() -> None:
    assert set(NAMES) == {(colour, shape) for colour in COLOURS for shape in SHAPES}
    assert len(set(NAMES.values())) == len(COLOURS) * len(SHAPES)
    # two syllables of two letters, and no word that means something else already
    assert {len(name) for name in NAMES.values()} == {4}
    assert not set(NAMES.values()) & {*COLOURS, *SHAPES, *SIZES}


@pytest.mark.parametrize("kinds", ["vqa", "gqa"])
def test_the_near_miss_is_never_the_answer(kinds: str) -> None:
    random = Random(0)
    for _ in range(400):
        scene = draw_scene(random)
        question = ask(scene, random, GQA) if kinds == "gqa" else ask(scene, random)
        assert question.answer.strip()
        assert question.near_miss.strip()
        assert question.near_miss != question.answer
        assert question.text.endswith("?")
        assert len(human_answers(question, random)) == 10


@pytest.mark.parametrize("fewest", [1, 2, 4])
def test_a_scene_has_one_thing_in_a_quarter_and_at_least_those_asked_for(
    fewest: int,
) -> None:
    random = Random(0)
    for _ in range(200):
        places = [thing.place for thing in draw_scene(random, fewest).things]
        assert fewest <= len(places) <= 4
        assert len(set(places)) == len(places)


@pytest.mark.usefixtures("few")
def test_a_world_that_is_complete_is_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ensure_world(tmp_path)

    def fail(_: Path) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(files, "write_world", fail)
    assert ensure_world(tmp_path) == folder
    # nothing is left beside it
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.usefixtures("few")
def test_a_world_without_its_last_file_does_not_count_as_complete(
    tmp_path: Path,
) -> None:
    folder = ensure_world(tmp_path)
    whole = contents(folder)
    (folder / MARK).unlink()
    (folder / "val2014" / "COCO_val2014_000000100001.jpg").write_bytes(b"half a pic")
    (folder / "left over").touch()
    assert ensure_world(tmp_path) == folder
    assert contents(folder) == whole


@pytest.mark.usefixtures("few")
def test_an_interrupted_drawing_leaves_nothing_that_counts_as_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        write_world(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_world", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensure_world(tmp_path)
    assert list(tmp_path.iterdir()) == []
    # a killed process cleans nothing up: its draft has a name of its own
    write_world(tmp_path / "world-draft")
    folder = ensure_world(tmp_path)
    assert folder.name == f"world-{files.VERSION}"
    assert (folder / MARK).is_file()
