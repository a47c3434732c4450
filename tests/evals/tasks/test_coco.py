from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Sample, Selection, Split
from evals import captions
from evals.splits import check_disjoint
from evals.tasks.coco import PLUGIN
from evals.taskset import within
from tests.evals.data_folders import (
    captions_of,
    read,
    write,
    write_coco,
    write_karpathy,
)

if TYPE_CHECKING:
    from pathlib import Path

SEED_0 = Selection()
KARPATHY = {
    "train": range(1, 141),
    "restval": range(141, 151),
    "val": range(201, 221),
    "test": range(301, 311),
}


def year(number: int) -> dict[str, range]:
    return {f"train{number}": range(1, 161), f"val{number}": range(201, 211)}


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything there is to download."""
    folder = tmp_path_factory.mktemp("coco")
    write_karpathy(folder, KARPATHY)
    write_coco(folder, year(2014) | year(2017))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder of its own, to be damaged."""
    write_coco(tmp_path, {"train2014": range(1, 4), "val2014": range(11, 17)})
    return tmp_path


def numbers(samples: tuple[Sample, ...]) -> set[int]:
    return {int(sample.id) for sample in samples}


@pytest.mark.parametrize(
    ("subset", "file"),
    [
        ("karpathy", "val2014/COCO_val2014_{:012d}.jpg"),
        ("val2014", "val2014/COCO_val2014_{:012d}.jpg"),
        ("val2017", "val2017/{:012d}.jpg"),
    ],
)
def test_a_sample_has_an_image_and_all_its_captions_as_written(
    official: Path, subset: str, file: str
) -> None:
    samples = PLUGIN.samples(official, "evaluation", Selection(subset=subset))
    assert len(samples) == 10
    for sample in samples:
        assert sample.image == official / file.format(int(sample.id))
        assert (sample.prompt, sample.text) == ("caption", "")
        assert sorted(sample.references) == captions_of(int(sample.id))


def test_the_splits_of_karpathy_are_followed_and_restval_left_unused(
    official: Path,
) -> None:
    found = {split: PLUGIN.samples(official, split, SEED_0) for split in SPLITS}
    assert numbers(found["calibration"]) < set(KARPATHY["train"])
    assert len(found["calibration"]) == 128
    assert numbers(found["search"]) == set(KARPATHY["val"])
    assert numbers(found["evaluation"]) == set(KARPATHY["test"])
    check_disjoint(**found)


@pytest.mark.parametrize("number", [2014, 2017])
@pytest.mark.parametrize("seed", [0, 1])
def test_training_images_are_divided_where_all_of_val_is_evaluated(
    official: Path, number: int, seed: int
) -> None:
    selection = Selection(seed, subset=f"val{number}")
    found = {split: PLUGIN.samples(official, split, selection) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [128, 32, 10]
    train = found["calibration"] + found["search"]
    assert {sample.image.parent.name for sample in train} == {f"train{number}"}
    check_disjoint(**found)


def test_the_first_subset_whose_file_is_there_is_taken(tmp_path: Path) -> None:
    write_coco(tmp_path, year(2017))
    (sample, *_) = PLUGIN.samples(tmp_path, "evaluation", SEED_0)
    assert sample.image.parent.name == "val2017"
    write_coco(tmp_path, year(2014))
    (sample, *_) = PLUGIN.samples(tmp_path, "evaluation", SEED_0)
    assert sample.image.parent.name == "val2014"
    write_karpathy(tmp_path, KARPATHY)
    assert numbers(PLUGIN.samples(tmp_path, "evaluation", SEED_0)) == set(
        KARPATHY["test"]
    )


def test_a_folder_without_captions_says_which_files_would_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset_coco.json, .*val2014.json, .*2017"):
        PLUGIN.samples(tmp_path, "evaluation", SEED_0)


@pytest.mark.parametrize("subset", [None, *PLUGIN.subsets])
def test_a_fraction_is_a_share_of_the_evaluation_set_alone(
    official: Path, subset: str | None
) -> None:
    selection = Selection(0, subset=subset)
    whole = PLUGIN.samples(official, "evaluation", selection)
    part = PLUGIN.samples(official, "evaluation", replace(selection, fraction=0.3))
    assert part == whole[:3]
    assert whole == PLUGIN.samples(
        official, "evaluation", replace(selection, fraction=1.0)
    )
    assert PLUGIN.samples(official, "search", selection) == PLUGIN.samples(
        official, "search", replace(selection, fraction=0.3)
    )


@pytest.mark.parametrize("subset", PLUGIN.subsets)
@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_alone_decides_which_samples_are_chosen(
    official: Path, subset: str, split: Split
) -> None:
    first, again, other = (
        PLUGIN.samples(official, split, Selection(seed, subset=subset))
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_splits_file_is_followed_to_the_letter(data: Path) -> None:
    listed = {"search": [12, 11], "evaluation": [16, 13, 15, 14]}
    write(data / "coco_splits.json", listed)
    for split, wanted in listed.items():
        samples = PLUGIN.samples(data, split, Selection(3))
        assert [int(sample.id) for sample in samples] == wanted
    half = [
        int(sample.id)
        for sample in PLUGIN.samples(data, "evaluation", Selection(0, 0.5))
    ]
    assert half == [number for number in listed["evaluation"] if number in half]
    assert len(half) == 2
    assert numbers(PLUGIN.samples(data, "calibration", SEED_0)) == {1, 2, 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"search": [11]}, "'evaluation' of type list is missing"),
        ({"evaluation": [1]}, "lists 1 for evaluation, which is not the id"),
        ({"evaluation": ["11"]}, "lists '11' for evaluation"),
        ({"evaluation": [11, 11]}, "twice"),
        ({"evaluation": []}, "too few images for evaluation"),
    ],
)
def test_a_wrong_splits_file_is_refused(
    data: Path, content: object, message: str
) -> None:
    write(data / "coco_splits.json", content)
    with pytest.raises(DataError, match=message):
        PLUGIN.samples(data, "evaluation", SEED_0)


@pytest.mark.parametrize("name", ["coco_splits.json", "dataset_coco.json"])
def test_a_file_whose_link_leads_nowhere_is_not_passed_over(
    name: str, data: Path
) -> None:
    (data / name).symlink_to("gone")
    with pytest.raises(DataError, match=f"{name} is missing"):
        PLUGIN.samples(data, "evaluation", SEED_0)


def test_too_few_training_images_leave_none_to_search_on(data: Path) -> None:
    with pytest.raises(DataError, match=r"captions_train2014\.json in .* too few imag"):
        PLUGIN.samples(data, "search", SEED_0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[0].update(image_id=99),
            "a caption of image 99, which it do",
        ),
        (lambda rows: rows[1].update(id=rows[0]["id"]), "two captions of the same id"),
        (lambda rows: rows[0].update(caption=" \n"), "image 11 has an empty or no cap"),
        (lambda rows: rows.clear(), r"image 1\d has an empty or no caption"),
    ],
)
def test_captions_that_do_not_fit_their_images_are_refused(
    data: Path, change: object, message: str
) -> None:
    path = data / "annotations" / "captions_val2014.json"
    content = read(path)
    assert callable(change)
    change(content["annotations"])
    write(path, content)
    with pytest.raises(DataError, match=message) as caught:
        PLUGIN.samples(data, "evaluation", SEED_0)
    assert path.name in str(caught.value)


def test_an_image_twice_is_refused(data: Path) -> None:
    path = data / "annotations" / "captions_val2014.json"
    content = read(path)
    content["images"].append(content["images"][0])
    write(path, content)
    with pytest.raises(DataError, match="two entries of the same id 11"):
        PLUGIN.samples(data, "evaluation", SEED_0)


def test_a_caption_is_scored_against_what_people_wrote() -> None:
    samples = PLUGIN.examples
    best = PLUGIN.score([each.references[0] for each in samples], samples)
    half = PLUGIN.score([samples[0].references[0], "", "xyzzy"], samples)
    assert best.mean > half.mean == pytest.approx(best.values[0] / 3)
    assert half.values[1:] == (0, 0)
    # BLEU is 0 to 1, CIDEr-D 0 to 10
    assert 0 <= half.details["BLEU-4"] < best.details["BLEU-4"]
    assert best.details["BLEU-4"] == pytest.approx(1)
    assert 1 < best.mean <= 10


def test_references_are_taken_apart_once_for_the_same_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captions.weighed.cache_clear()
    calls = []
    tokenize = captions.tokenize_caption
    monkeypatch.setattr(
        captions, "tokenize_caption", lambda text: calls.append(text) or tokenize(text)
    )
    samples = PLUGIN.examples
    written = sum(len(sample.references) for sample in samples)
    for repeat in range(1, 4):
        PLUGIN.score(["A dog."] * len(samples), [replace(each) for each in samples])
        assert len(calls) == written + repeat * len(samples)
    PLUGIN.score(["A dog."] * 2, samples[:2])
    assert captions.weighed.cache_info().currsize == 2


def test_parts_of_a_set_score_what_they_do_in_the_whole() -> None:
    whole = PLUGIN.examples
    said = ("A dog sleeps on shoes.", "A bike.", "A dog lies there.")
    values = PLUGIN.score(said, whole).values
    part = within(PLUGIN, whole)
    assert part.score(said[1:], whole[1:]).values == pytest.approx(values[1:])
    assert part.score(said[:1], whole[:1]).values == pytest.approx(values[:1])
    # alone it would score nothing, since every word is in every reference
    assert PLUGIN.score(said[:1], whole[:1]).mean == 0
    assert part.score(said, whole) == PLUGIN.score(said, whole)
    assert within(PLUGIN, ()) is PLUGIN
