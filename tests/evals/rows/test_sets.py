"""Which pictures calibrate, guide the search and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Selection
from evals.rows.sets import Item, divided, shared_picture
from tests.evals.own_files import lines, opened, rows, write, write_pictures


def items(pictures: int, each: int = 1) -> list[Item]:
    """Items of some pictures, several of each."""
    return [
        Item(n, str(n), "?", ("a",), image=f"p{n // each}", file=Path(f"{n // each}"))
        for n in range(pictures * each)
    ]


def counts(found: list[Item], seed: int = 0) -> tuple[int, ...]:
    sets = divided(found, seed, "x.csv")
    return tuple(len(sets[split]) for split in SPLITS)


def test_a_fifth_of_the_pictures_calibrates_and_three_tenths_guide() -> None:
    assert counts(items(100)) == (20, 30, 50)
    # 4 questions of each picture: 25 pictures are divided 5, 8 (of 7.5), 12
    assert counts(items(25, 4)) == (20, 32, 48)
    assert counts(items(3)) == (1, 1, 1)


def test_no_more_than_128_pictures_calibrate_and_1000_samples_guide() -> None:
    assert counts(items(10_000)) == (128, 1000, 8872)
    # pictures stay whole: 142 of 7 questions each are 994 samples
    assert counts(items(1000, 7))[1] == 994


def test_no_picture_is_in_two_sets_whatever_the_seed() -> None:
    for seed in range(20):
        assert shared_picture(divided(items(40, 3), seed, "x.csv")) is None


def test_every_sample_is_in_a_set() -> None:
    found = items(41, 3)
    sets = divided(found, 5, "x.csv")
    everything = [item for own in sets.values() for item in own]
    assert sorted(everything, key=lambda item: item.number) == found


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    found = items(100)
    sets, turned = divided(found, 1, "x.csv"), divided(found[::-1], 1, "x.csv")
    assert all(set(sets[split]) == set(turned[split]) for split in SPLITS)
    assert divided(found, 2, "x.csv") != sets


def test_more_pictures_leave_most_where_they_were() -> None:
    before = divided(items(100), 0, "x.csv")
    after = divided(items(105), 0, "x.csv")
    same = sum(len({*before[s]} & {*after[s]}) for s in SPLITS)
    # 5 pictures more move about a fifth of them and then half across two bounds
    assert same >= 90


def test_fewer_than_three_pictures_are_refused() -> None:
    with pytest.raises(DataError, match=r"x.csv has 2 different pictures: .*two of"):
        divided(items(2, 30), 0, "x.csv")


def own(folder: Path, entries: list[dict[str, Any]], **wishes: Any) -> Any:
    return opened(write(folder, "samples.jsonl", lines(entries)), **wishes)


def in_sets(*names: str) -> list[dict[str, Any]]:
    return [{**r, "split": names[n % len(names)]} for n, r in enumerate(rows())]


def ids(task: Any, split: Any, **selection: Any) -> list[str]:
    found = task.samples(Path(), split, Selection(**selection))
    return [sample.id for sample in found]


def test_a_column_of_sets_is_kept_whatever_its_capitals(tmp_path: Path) -> None:
    task = own(tmp_path, in_sets("Calibration", "SEARCH", " evaluation "))
    for place, split in enumerate(SPLITS):
        assert sorted(map(int, ids(task, split))) == list(range(place + 1, 61, 3))


def test_other_names_of_sets_are_said_not_to_count(tmp_path: Path) -> None:
    task = own(tmp_path, in_sets("train", "test"))
    assert len(ids(task, "evaluation")) == 30
    told = "column 'split' holds no sets of ours"
    assert any(told in remark for remark in task.summary.remarks)


def test_calibration_takes_one_question_of_a_picture(tmp_path: Path) -> None:
    entries = [{**row, "image": f"{n // 3}.png"} for n, row in enumerate(rows())]
    task = own(tmp_path, entries)
    found = task.samples(tmp_path, "calibration", Selection())
    # a fifth of 20 pictures
    assert len(found) == len({sample.image for sample in found}) == 4
    assert task.summary.counts["calibration"] == 4
    assert any("8 samples of pictures that" in each for each in task.summary.remarks)
    # search and evaluation have all three of each: 6 and 10 pictures
    assert [len(ids(task, split)) for split in SPLITS[1:]] == [18, 30]


def test_pictures_of_one_content_are_one(tmp_path: Path) -> None:
    write(tmp_path, "x", "")
    entries = rows()
    for number in range(0, 60, 2):
        copy = tmp_path / f"copy {number}.png"
        copy.write_bytes((tmp_path / f"{number}.png").read_bytes())
        entries[number + 1]["image"] = copy.name
    task = own(tmp_path, entries)
    assert sum(task.summary.pictures.values()) == 30
    images = [
        {sample.image for sample in task.samples(tmp_path, split, Selection())}
        for split in SPLITS
    ]
    assert not images[0] & images[1]
    assert not images[1] & images[2]
    assert not images[0] & images[2]


def test_a_fraction_is_one_of_the_evaluation_set(tmp_path: Path) -> None:
    task = own(tmp_path, rows())
    whole = ids(task, "evaluation")
    part = ids(task, "evaluation", fraction=0.5)
    assert len(part) == 15
    assert [name for name in whole if name in part] == part
    assert ids(task, "search", fraction=0.5) == ids(task, "search")


def test_the_seed_of_a_selection_orders_and_that_of_the_wishes_divides(
    tmp_path: Path,
) -> None:
    task = own(tmp_path, rows(), seed=3)
    for split in SPLITS:
        here, there = ids(task, split), ids(task, split, seed=1)
        assert here != there
        assert sorted(here) == sorted(there)
    other = own(tmp_path, rows(), seed=4)
    assert sorted(ids(other, "search")) != sorted(ids(task, "search"))


def test_pictures_that_are_not_in_use_can_judge(tmp_path: Path) -> None:
    # of 150 pictures in the file's own set 128 calibrate
    entries = rows(200)
    for number, row in enumerate(entries):
        name = "calibration" if number < 150 else ("search", "evaluation")[number % 2]
        row["split"] = name
    write_pictures(tmp_path, 200)
    task = own(tmp_path, entries)
    used = ids(task, "calibration", seed=0)
    drawn = ids(task, "calibration", seed=1)
    assert len(used) == len(drawn) == 128
    assert set(drawn) - set(used)
