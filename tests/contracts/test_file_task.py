"""What every task of a user's own file must do, beside what all tasks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import AllocateError, DataError
from allocator.core.own import AGREEMENT, Summary, refers_to_itself
from allocator.core.ports import SPLITS, Selection
from tests.contracts.tasks import file_tasks, of_file, plug_in, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample

EACH = pytest.mark.parametrize("name", file_tasks())


def all_samples(task: Any, folder: Path, seed: int = 0) -> dict[str, list[Sample]]:
    chosen = Selection(seed=seed)
    return {split: [*task.samples(folder, split, chosen)] for split in SPLITS}


def test_there_are_some() -> None:
    assert "own" in file_tasks()


@EACH
def test_before_it_is_opened_it_has_a_name_and_says_what_it_needs(name: str) -> None:
    assert plug_in(name).name == name
    assert plug_in(name).needs == "reply"
    assert plug_in(name).examples == ()


@EACH
def test_sets_share_no_picture_and_their_files_are_there(
    name: str, tmp_path: Path
) -> None:
    found = all_samples(of_file(name, write_file(tmp_path)), tmp_path)
    images = {split: {sample.image for sample in own} for split, own in found.items()}
    assert all(image.is_file() for own in images.values() for image in own)
    assert sum(map(len, images.values())) == len(set().union(*images.values()))


@EACH
def test_the_summary_is_of_the_samples(name: str, tmp_path: Path) -> None:
    task = of_file(name, write_file(tmp_path))
    assert isinstance(task.summary, Summary)
    found = all_samples(task, tmp_path)
    assert task.summary.counts == {split: len(own) for split, own in found.items()}
    assert task.summary.half_width > 0
    told = " ".join(task.summary.sentences)
    assert all(f"{len(own)} samples" in told for own in found.values())


@EACH
def test_samples_are_placed_in_the_file(name: str, tmp_path: Path) -> None:
    task = of_file(name, write_file(tmp_path))
    for own in all_samples(task, tmp_path).values():
        for sample in own:
            # the header is row 1
            row = int(sample.id.removeprefix("q")) + 2
            assert f"row {row} of samples.tsv" in task.place(sample)


@EACH
def test_the_same_file_gives_the_same_samples(name: str, tmp_path: Path) -> None:
    file = write_file(tmp_path)
    first = all_samples(of_file(name, file), tmp_path)
    assert all_samples(of_file(name, file), tmp_path) == first
    other = all_samples(of_file(name, file, seed=1), tmp_path)
    assert {s.id for s in other["search"]} != {s.id for s in first["search"]}


@EACH
def test_agreement_needs_no_answers_and_gives_none(name: str, tmp_path: Path) -> None:
    task = of_file(name, write_file(tmp_path, answer=None), metric=AGREEMENT)
    assert refers_to_itself(task)
    for own in all_samples(task, tmp_path).values():
        assert {sample.references for sample in own} == {()}


@EACH
def test_what_cannot_be_meant_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*nothing\.tsv"):
        of_file(name, tmp_path / "nothing.tsv")
    file = write_file(tmp_path)
    for wrong in ({"columns": {"answers": "gold"}}, {"metric": "nothing"}):
        with pytest.raises(AllocateError, match=r"gold|nothing"):
            of_file(name, file, **wrong)
    with pytest.raises(DataError, match="40 at least"):
        of_file(name, write_file(tmp_path, 39))
