from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.core.own import RowTask, summary_of
from allocator.core.ports import SPLITS, Selection
from tests.evals.own_files import COUNT, lines, opened, rows, write

if TYPE_CHECKING:
    from pathlib import Path

SELECTION = Selection()


def test_all_rows_are_samples_whatever_set_they_are_in(tmp_path: Path) -> None:
    # two questions about each picture, of which calibration takes one
    entries = [each for row in rows() for each in (row, {**row, "question": "why?"})]
    task = opened(write(tmp_path, "samples.jsonl", lines(entries)))
    found = task.rows()
    assert [sample.id for sample in found] == [str(n + 1) for n in range(2 * COUNT)]
    assert [sample.image.name for sample in found[:3]] == ["0.png", "0.png", "1.png"]
    taken = {s.id for split in SPLITS for s in task.samples(tmp_path, split, SELECTION)}
    assert len(taken) < len(found)
    assert taken <= {sample.id for sample in found}
    assert isinstance(task, RowTask)


def test_samples_that_are_left_out_are_in_no_set_and_in_the_summary(
    tmp_path: Path,
) -> None:
    task = opened(write(tmp_path, "samples.jsonl", lines(rows())))
    left = task.without({"3", "5"})
    kept = {
        split: [s.id for s in task.samples(tmp_path, split, SELECTION)]
        for split in SPLITS
    }
    for split in SPLITS:
        ids = [sample.id for sample in left.samples(tmp_path, split, SELECTION)]
        # the others stay where they are
        assert ids == [each for each in kept[split] if each not in ("3", "5")]
    summary = summary_of(left)
    assert summary is not None
    assert sum(summary.counts.values()) == COUNT - 2
    assert [place.split()[-3] for place in summary.left_out] == ["3", "5"]
    assert summary.sentences[-1].startswith(
        "2 samples are left out, as their pictures cannot be read: column 'image' in "
    )
    assert summary_of(task).left_out == ()  # type: ignore[union-attr]


def test_a_set_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    entries = rows()
    for number, row in enumerate(entries):
        row["split"] = ("search", *SPLITS)[min(number, 3)]
    task = opened(write(tmp_path, "samples.jsonl", lines(entries)))
    assert {s.id for s in task.without({"1"}).samples(tmp_path, "search", SELECTION)}
    with pytest.raises(DataError, match="no picture of the set 'calibration' of sam"):
        task.without({"2"})


def test_missing_pictures_may_be_left_out_too(tmp_path: Path) -> None:
    file = write(tmp_path, "samples.jsonl", lines(rows()))
    (tmp_path / "7.png").unlink()
    with pytest.raises(DataError, match="missing"):
        opened(file)
    # whoever asks for it is told of the file that is not there
    task = opened(file, skip_broken=True)
    assert task.rows()[7].image == tmp_path / "7.png"
    assert len(task.without({"8"}).rows()) == COUNT - 1
